// Package deploy has no code: it tests what operators copy from here.
package deploy

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/master/observe"
)

// promtool finds Prometheus's own checker in $PATH or in $OPENMIGRATE_CACHE/bin, where it is put from Debian's package, which is not installed: it
// would start a server.
func promtool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	cache := os.Getenv("OPENMIGRATE_CACHE")
	if cache == "" {
		cache = "/var/cache/openmigrate"
	}
	path := filepath.Join(cache, "bin", "promtool")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "promtool-*") // beside it, so that it can be renamed
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	script := "apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }\ndpkg-deb -x prometheus_*.deb x"
	if out, err := run(t, dir, "bash", "-ec", script); err != nil {
		t.Fatalf("get promtool: %v\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(dir, "x/usr/bin/promtool"), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t *testing.T, dir string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestRules(t *testing.T) {
	tool := promtool(t)
	for _, args := range [][]string{{"check", "rules", "openmigrate.rules.yml"}, {"test", "rules", "openmigrate.test.yml"}} {
		if out, err := run(t, "prometheus", tool, args...); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if out, err := run(t, "prometheus", tool, "check", "config", "--syntax-only", "scrape.yml"); err != nil {
		t.Errorf("promtool check config: %v\n%s", err, out)
	}
}

var metric = regexp.MustCompile(`\bopenmigrate_[a-z_]+`)

// TestMetricsExist: what rules and dashboard ask for is what the master tells.
func TestMetricsExist(t *testing.T) {
	known := observe.Names()
	used := map[string]int{}
	look := func(file, text string) {
		for _, name := range metric.FindAllString(text, -1) {
			used[name]++
			base := name
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if !slices.Contains(known, name) && !slices.Contains(known, base) {
				t.Errorf("%s asks for %s, which the master does not tell", file, name)
			}
		}
	}
	rules, err := os.ReadFile("prometheus/openmigrate.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	look("rules", string(rules))
	b, err := os.ReadFile("grafana/openmigrate.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	var exprs []string
	for _, p := range board.Panels {
		if p.Title == "" || len(p.Targets) == 0 || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 || ids[p.ID] {
			t.Errorf("panel %d %q is not right", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			look("dashboard", target.Expr)
			exprs = append(exprs, target.Expr)
		}
	}
	if len(board.Panels) < 15 {
		t.Errorf("%d panels", len(board.Panels))
	}
	parses(t, exprs)
	guide, err := os.ReadFile("../docs/OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range known {
		if !strings.Contains(string(guide), "`"+name) {
			t.Errorf("docs/OPERATING.md does not name %s", name)
		}
	}
}

// parses lets promtool read the dashboard's expressions, as rules.
func parses(t *testing.T, exprs []string) {
	t.Helper()
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, e := range exprs {
		e = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$project", ".*").Replace(e)
		quoted, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		rules.WriteString("  - {record: 'dashboard:" + strings.Repeat("x", i+1) + "', expr: " + string(quoted) + "}\n")
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, ".", promtool(t), "check", "rules", file); err != nil {
		t.Errorf("the dashboard's expressions: %v\n%s", err, out)
	}
}
