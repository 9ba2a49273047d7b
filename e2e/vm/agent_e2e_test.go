//go:build e2e

package vm

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
)

// TestAgent replicates the disk that a machine runs from, and starts another machine from what arrived.
func TestAgent(t *testing.T) {
	l := lab.New(t)
	master, staging := portOf(t, l.Addr), portOf(t, stagingAddr(t, l))
	m := Start(t, Build(t, Recipe{}), Options{HostPorts: []int{master, staging}})
	m.WaitBoot()
	ctx := limit(t)
	m.Forward(ctx, master)
	m.Forward(ctx, staging)
	m.Shell(ctx, "echo 'from the source' >/root/marker; sync")
	if err := m.Put(ctx, filepath.Join(l.Bin, "openmigrate-agent"), "/usr/local/sbin/openmigrate-agent", 0o755); err != nil {
		t.Fatal(err)
	}
	m.Shell(ctx, "systemd-run --quiet --unit=openmigrate-agent openmigrate-agent run --master "+l.Env("OPENMIGRATE_URL")+
		" --token '"+l.Token("agent")+"' --name vm1 --disk /dev/sda")
	l.Eventually(2*time.Minute, "agent enrolled", func() error {
		var list []struct{ ID string }
		if l.JSON(&list, "machines", "ls"); len(list) == 0 {
			r, err := m.Run(limit(t), "journalctl", "-n5", "--no-pager", "-u", "openmigrate-agent")
			return errors.Join(errors.New("no machine: "+string(r.Stdout)), err)
		}
		return nil
	})

	began := time.Now()
	var point struct{ ID string }
	l.JSON(&point, "machines", "sync", "vm1", "--wait")
	t.Logf("replicated in %.0f s", time.Since(began).Seconds())
	// Again: by what was written only, with the root file system frozen for a moment.
	m.Shell(ctx, "echo 'and more' >>/root/marker")
	began = time.Now()
	l.JSON(&struct{}{}, "machines", "sync", "vm1", "--wait")
	var list []struct {
		ID, Consistency string
		Disks           []struct{ Tracker string }
	}
	l.JSON(&list, "restpoints", "ls", "vm1")
	show, err := l.CLI("machines", "show", "vm1")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("again in %.0f s\n%s", time.Since(began).Seconds(), show)
	if p := list[0]; p.Consistency == "fuzzy" || p.Disks[0].Tracker != "ebpf" {
		t.Errorf("consistency %s, tracker %s", p.Consistency, p.Disks[0].Tracker)
	}
	point.ID = list[0].ID
	m.Kill()

	copied := l.Path("copy.img")
	began = time.Now()
	if _, err := l.CLI("restpoints", "export", point.ID, "--disk", "0", "--to", copied); err != nil {
		t.Fatal(err)
	}
	t.Logf("exported in %.0f s", time.Since(began).Seconds())
	target := Start(t, Image{copied}, Options{})
	t.Logf("copy boots in %.1f s", target.WaitBoot().Seconds())
	ctx = limit(t)
	if err := target.WaitConsole(ctx, "login:"); err != nil {
		t.Error(err)
	}
	if out := target.Shell(ctx, "cat /root/marker"); out != "from the source\nand more\n" {
		t.Errorf("the copy's marker is %q", out)
	}
	t.Logf("file systems at the copy's first boot: %s", target.Shell(ctx, "journalctl -b --no-pager -t systemd-fsck; dmesg | grep EXT4-fs"))
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// stagingAddr is where the built-in staging listens, which the master chose at its first start.
func stagingAddr(t *testing.T, l *lab.Lab) string {
	t.Helper()
	b, err := os.ReadFile(l.Path("master/keys/staging.json"))
	if err != nil {
		t.Fatal(err)
	}
	var access struct{ Address string }
	if err := json.Unmarshal(b, &access); err != nil || access.Address == "" {
		t.Fatalf("the staging's address is not in its file: %v", err)
	}
	return access.Address
}
