//go:build e2e

// Package hooks runs the example hooks of packaging/hooks against real servers.
package hooks

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/agent/quiesce/hooks"
	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// install puts one hook into a directory of its own.
func install(t *testing.T, name string) hooks.Set {
	t.Helper()
	roottest.Need(t, "hooks belong to root")
	b, err := os.ReadFile(filepath.Join(lab.Root(), "packaging/hooks", name))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o755); err != nil {
		t.Fatal(err)
	}
	return hooks.Set{Dir: dir}
}

func freeze(t *testing.T, set hooks.Set) []hooks.Result {
	t.Helper()
	ran, err := set.Freeze(t.Context())
	if err != nil {
		t.Fatalf("freeze: %v: %+v", err, ran)
	}
	return ran
}

func thaw(t *testing.T, set hooks.Set, ran []hooks.Result) {
	t.Helper()
	if out, err := set.Thaw(t.Context(), ran); err != nil {
		t.Fatalf("thaw: %v: %+v", err, out)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// serve starts a server, and waits until ready does not fail any more.
func serve(t *testing.T, ready func() error, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := ready()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("%s does not answer: %v\n%s", name, err, log)
		}
	}
}

func TestMySQL(t *testing.T) {
	set := install(t, "mysql")
	dir := t.TempDir()
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "s")
	t.Setenv("MYSQL_OPTIONS", "--no-defaults --socket="+socket+" --user=root")
	t.Setenv("MYSQL_STATE", filepath.Join(dir, "state"))
	sql := func(ctx context.Context, q string) (string, error) {
		out, err := exec.CommandContext(ctx, "mariadb", "--no-defaults", "--socket="+socket, "--user=root", "-NB", "-e", q).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	run(t, "mariadb-install-db", "--no-defaults", "--user=root", "--auth-root-authentication-method=normal", "--datadir="+data)
	serve(t, func() error { _, err := sql(t.Context(), "select 1"); return err },
		"/usr/sbin/mariadbd", "--no-defaults", "--user=root", "--datadir="+data, "--socket="+socket, "--skip-networking", "--pid-file="+filepath.Join(dir, "pid"))
	must := func(q string) string {
		t.Helper()
		out, err := sql(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: %v: %s", q, err, out)
		}
		return out
	}
	must("create database d; create table d.t (n int) engine=MyISAM; insert into d.t values (1)")
	// blocked reports whether a write has to wait.
	blocked := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := sql(ctx, "insert into d.t values (2)")
		return err != nil
	}
	ran := freeze(t, set)
	if !blocked() {
		t.Error("a write went through while the read lock was to be held")
	}
	if got := must("select count(*) from d.t"); got != "1" {
		t.Errorf("%s rows while locked", got)
	}
	thaw(t, set, ran)
	if blocked() {
		t.Error("a write waits after the thaw")
	}
	// The agent dies: the lock ends by itself.
	t.Setenv("MYSQL_HOLD", "2")
	ran = freeze(t, set)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := sql(ctx, "insert into d.t values (3)"); err != nil {
		t.Errorf("the lock was not given up: %v", err)
	}
	if _, err := set.Thaw(t.Context(), ran); err == nil {
		t.Error("a thaw after the lock was given up succeeds")
	}
	// Somebody holds a lock that does not let this one in.
	t.Setenv("MYSQL_WAIT", "1")
	other := exec.Command("mariadb", "--no-defaults", "--socket="+socket, "--user=root", "-e", "lock tables d.t write; select sleep(6)")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	for must("select count(*) from information_schema.processlist where info like '%sleep(6)%' and id <> connection_id()") == "0" {
		time.Sleep(50 * time.Millisecond)
	}
	if ran, err := set.Freeze(t.Context()); err == nil {
		t.Errorf("the hook succeeds without the lock: %+v", ran)
	}
	if err := other.Wait(); err != nil {
		t.Error(err)
	}
	if blocked() {
		t.Error("a write waits after a freeze that failed")
	}
}

func TestRedis(t *testing.T) {
	set := install(t, "redis")
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	t.Setenv("REDIS_OPTIONS", "-s "+socket)
	start := func(dir, socket string) {
		serve(t, func() error { return exec.CommandContext(t.Context(), "redis-cli", "-s", socket, "ping").Run() },
			"redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "")
	}
	start(dir, socket)
	for range 3 { // also when the last save is less than a second old
		run(t, "redis-cli", "-s", socket, "incr", "counter")
		thaw(t, set, freeze(t, set))
	}
	copied := t.TempDir()
	run(t, "cp", filepath.Join(dir, "dump.rdb"), copied)
	run(t, "redis-cli", "-s", socket, "incr", "counter")
	start(copied, filepath.Join(copied, "s"))
	if got := run(t, "redis-cli", "-s", filepath.Join(copied, "s"), "get", "counter"); got != "3" {
		t.Errorf("a copy of the files has counter %s, want 3", got)
	}
	t.Setenv("REDIS_OPTIONS", "-s /nowhere")
	if _, err := set.Freeze(t.Context()); err == nil {
		t.Error("the hook succeeds without a server")
	}
}
