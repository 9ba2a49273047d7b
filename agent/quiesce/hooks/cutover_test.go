package hooks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/internal/roottest"
)

// TestCutoverExamples: the example hooks stop what runs, in order, start only that again, in reverse, and once.
func TestCutoverExamples(t *testing.T) {
	roottest.Need(t, "hooks, which must be owned by root")
	dir := t.TempDir()
	log, active := filepath.Join(dir, "log"), filepath.Join(dir, "active")
	fake := "#!/bin/sh\n[ $1 = is-active ] && { grep -qx \"$3\" " + active + "; exit; }\necho $1 $2 >> " + log + "\n" +
		"[ $1 = stop ] && sed -i \"/^$2$/d\" " + active + "\n[ $1 = start ] && echo $2 >> " + active + "\nexit 0\n"
	units := filepath.Join(dir, "units")
	for name, text := range map[string]string{"bin/systemctl": fake, "bin/pgrep": "#!/bin/sh\nexit 1\n", "active": "app\ndb\npostgresql\n", "units": "app # first\n\nidle\ndb\n"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	t.Setenv("OM_CUTOVER_UNITS", units)
	t.Setenv("OM_CUTOVER_RAN", filepath.Join(dir, "ran"))
	t.Setenv("OM_POSTGRESQL_RAN", filepath.Join(dir, "pg"))
	for _, c := range []struct{ hook, verb, want string }{
		{"40-postgresql", "stop", "stop postgresql"},
		{"50-systemd", "stop", "stop app,stop db"},
		{"50-systemd", "start", "start db,start app"},
		{"50-systemd", "start", ""},
		{"40-postgresql", "start", "start postgresql"},
		{"40-postgresql", "start", ""},
	} {
		_ = os.Remove(log)
		r := Set{}.Call(t.Context(), filepath.Join("..", "..", "..", "packaging", "cutover", c.hook), c.verb)
		b, _ := os.ReadFile(log) // none: nothing was called
		if got := strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", ","); r.Err != nil || got != c.want {
			t.Errorf("%s %s called %q, want %q: %v %s", c.hook, c.verb, got, c.want, r.Err, r.Output)
		}
	}
}
