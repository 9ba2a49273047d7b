package badinput

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/openmigrate/openmigrate/e2e/lab"
)

// TestLaunchCommands: what cannot be launched is refused with the promised status and the next step, and nothing was made for it.
func TestLaunchCommands(t *testing.T) {
	l := lab.NewWith(t, lab.Options{Args: []string{"--provider", "qemu,accel=tcg"}})
	disk := l.Path("disk.img")
	if err := os.WriteFile(disk, bytes.Repeat([]byte("no system is on it\n"), 1<<13), 0o600); err != nil {
		t.Fatal(err)
	}
	l.StartAgent(l.Token("agent"), disk)
	waitForMachine(t, l)

	t.Run("lists", func(t *testing.T) {
		var launches, orphans []any
		l.JSON(&launches, "launch", "ls")
		l.JSON(&orphans, "providers", "orphans", "qemu")
		var places []struct{ Name, Kind string }
		l.JSON(&places, "providers", "ls")
		if launches == nil || len(launches) != 0 || orphans == nil || len(orphans) != 0 || len(places) != 1 || places[0].Name != "qemu" {
			t.Errorf("launches %v, orphans %v, providers %v", launches, orphans, places)
		}
	})
	t.Run("unknown ids", func(t *testing.T) {
		for _, args := range [][]string{
			{"launch", "show", "nosuch"}, {"launch", "console", "nosuch"}, {"launch", "revert", "nosuch"}, {"launch", "finalize", "nosuch"}, {"launch", "test", "nosuch"},
			{"launch", "cutover", "nosuch"}, {"launch", "template", "nosuch"}, {"launch", "ls", "--machine", "nosuch"}, {"launch", "screenshot", "nosuch", "--to", l.Path("x.png")},
			{"launch", "test", "web1", "--restpoint", "nosuch"}, {"providers", "check", "nosuch"}, {"providers", "orphans", "nosuch", "--remove"},
		} {
			expect(t, l, 3, "nosuch", args...)
		}
	})
	t.Run("usage", func(t *testing.T) {
		expect(t, l, 2, "arg", "launch", "test")
		expect(t, l, 2, "--check", "launch", "test", "web1", "--check", "ping")
		expect(t, l, 2, "--memory", "launch", "cutover", "web1", "--memory", "lots")
		expect(t, l, 2, "--to", "launch", "screenshot", "nosuch")
		expect(t, l, 2, "unknown flag", "launch", "test", "web1", "--stop-source")
		expect(t, l, 2, "there is only qemu", "master", "--data-dir", l.Path("other"), "--provider", "cloud9")
		bad := l.Path("bad.yaml")
		if err := os.WriteFile(bad, []byte("nets: isolated\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, l, 2, "nets", "launch", "template", "web1", "-f", bad)
		expect(t, l, 1, "no such file", "launch", "template", "web1", "-f", l.Path("missing.yaml"))
		expect(t, l, 1, "bus", "launch", "template", "web1", "--bus", "ide")
	})
	t.Run("templates", func(t *testing.T) {
		if _, err := l.CLI("launch", "template", "web1", "--network", "isolated", "--check", "tcp:22", "--memory", "512MiB"); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Network string
			Memory  int64
			Checks  []struct{ Port int }
		}
		if l.JSON(&got, "launch", "template", "web1"); got.Network != "isolated" || got.Memory != 512<<20 || len(got.Checks) != 1 || got.Checks[0].Port != 22 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("roles", func(t *testing.T) {
		var viewer struct{ Token string }
		l.JSON(&viewer, "tokens", "create", "v", "--role", "viewer")
		for _, args := range [][]string{{"launch", "test", "web1"}, {"providers", "check", "qemu"}} {
			cmd := l.Command(args...)
			cmd.Env = append(cmd.Env, "OPENMIGRATE_TOKEN="+viewer.Token)
			fails(t, cmd, 4, "role")
		}
	})
	t.Run("what cannot start", func(t *testing.T) {
		l.JSON(&struct{}{}, "machines", "sync", "web1", "--wait")
		expect(t, l, 5, "network", "launch", "test", "web1", "--network", "nowhere")
		expect(t, l, 5, "type|c999", "launch", "test", "web1", "--type", "c999-m1")
		expect(t, l, 3, "provider", "launch", "test", "web1", "--provider", "elsewhere")
		var launches []any
		if l.JSON(&launches, "launch", "ls"); len(launches) != 0 {
			t.Errorf("refused launches are listed: %v", launches)
		}
		if made, err := os.ReadDir(l.Path(filepath.Join("master", "providers", "qemu", "volumes"))); err != nil || len(made) != 0 {
			t.Errorf("volumes %v, %v", made, err)
		}
	})
}
