//go:build e2e

// Package aws runs the commands of docs/AWS.md that need no more than an endpoint, as they stand there, with the real programs.
package aws

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/providers/aws/awsfake"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBinaries()
	os.Exit(code)
}

// commands are the lines of the page that begin with openmigrate and some words, without comments.
func commands(t *testing.T, words string) (list [][]string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(lab.Root(), "docs/AWS.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "    openmigrate "+words); ok {
			rest, _, _ = strings.Cut(words+rest, "#")
			list = append(list, strings.Fields(rest))
		}
	}
	if len(list) == 0 {
		t.Fatalf("docs/AWS.md has no command %q", words)
	}
	return list
}

// TestPage: a master as on the page, with region, instance and endpoint of here, lists the account, passes the suite there and leaves nothing.
func TestPage(t *testing.T) {
	fake := awsfake.New(&awsfake.Options{Settle: 20 * time.Millisecond, Lag: 10 * time.Millisecond})
	writer := fake.Operator(map[string]string{"openmigrate:hydrator": "true"})
	before := fake.Live()
	server := httptest.NewServer(fake)
	defer server.Close()
	master := commands(t, "master ")[0]
	var args []string
	for i, a := range master {
		if a == "--provider" {
			place := regexp.MustCompile(`region=[^,]+`).ReplaceAllString(master[i+1], "region="+fake.Region())
			place = regexp.MustCompile(`writer=[^,]+`).ReplaceAllString(place, "writer="+writer)
			args = append(args, a, place+",endpoint="+server.URL)
		}
	}
	if len(args) != 2 {
		t.Fatalf("the page starts the master with %q", master)
	}
	l := lab.NewWith(t, lab.Options{Args: args, Env: []string{"AWS_ACCESS_KEY_ID=" + awsfake.TestKey.ID, "AWS_SECRET_ACCESS_KEY=" + awsfake.TestKey.Secret, "AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true"}})
	for _, c := range commands(t, "providers ") {
		out, err := l.CLI(c...)
		if err != nil {
			t.Errorf("openmigrate %s: %v", strings.Join(c, " "), err)
		}
		t.Logf("openmigrate %s\n%s", strings.Join(c, " "), out)
	}
	var list []struct{ Kind, Error string }
	if l.JSON(&list, "providers", "ls"); len(list) != 1 || list[0].Kind != "aws" || list[0].Error != "" {
		t.Errorf("%+v", list)
	}
	after := fake.Live()
	for kind, n := range after {
		if n != before[kind] {
			t.Errorf("%d %ss are at the account, and were %d", n, kind, before[kind])
		}
	}
}
