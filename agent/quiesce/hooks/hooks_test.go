package hooks

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/internal/roottest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func script(t *testing.T, dir, name, body string) {
	t.Helper()
	roottest.Need(t, "hooks, which belong to root")
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestOrderAndFailure(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	for _, n := range []string{"10-a", "20-b", "30-c"} {
		body := "echo " + n + " $1 >>" + log
		if n == "20-b" {
			body += "; [ $1 = thaw ] || { echo no; exit 3; }"
		}
		script(t, dir, n, body)
	}
	s := Set{Dir: dir}
	ran, err := s.Freeze(t.Context())
	if err == nil || len(ran) != 2 || strings.TrimSpace(ran[1].Output) != "no" {
		t.Fatalf("%+v, %v", ran, err)
	}
	if _, err := s.Thaw(t.Context(), ran); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(log)
	if want := "10-a freeze\n20-b freeze\n20-b thaw\n10-a thaw\n"; err != nil || string(got) != want {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestTimeoutAndBoundedOutput(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "a", "yes & sleep 60")
	ran, err := Set{Dir: dir, Timeout: 300 * time.Millisecond}.Freeze(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || len(ran[0].Output) > maxOutput || ran[0].Took > 20*time.Second {
		t.Fatalf("%v", err)
	}
}

func TestRefusesWritable(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "a", "true")
	if err := os.Chmod(filepath.Join(dir, "a"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := (Set{Dir: dir}).Freeze(t.Context()); err == nil || !strings.Contains(err.Error(), "others than root") {
		t.Fatal(err)
	}
}

// TestNoSecrets: what the agent was told by its environment is not for hooks.
func TestNoSecrets(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("OPENMIGRATE_ENROLL_TOKEN", "secret")
	t.Setenv("MYSQL_OPTIONS", "kept")
	script(t, dir, "a", "env")
	ran, err := Set{Dir: dir}.Freeze(t.Context())
	if err != nil || strings.Contains(ran[0].Output, "secret") || !strings.Contains(ran[0].Output, "MYSQL_OPTIONS=kept") {
		t.Errorf("%q, %v", ran, err)
	}
}
