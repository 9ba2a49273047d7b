//go:build e2e

package vm

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
)

// Volumes of TestSnapshotSource, both in vg1 on the second disk.
const (
	thickVolume = "/dev/vg1/data" // ext4
	thinVolume  = "/dev/vg1/thin" // xfs, in a pool
	thickMount  = "/srv/data"
	thinMount   = "/srv/thin"
)

// snapshotWriter appends numbers to a journal, each durable before the next, and tells in memory which are; beside it, it overwrites blocks of
// another file, as a database does.
const snapshotWriter = `#!/bin/bash
cd "$1" && n=0
while :; do
  n=$((n+1))
  echo "$n" >>journal
  sync -d journal
  echo "$n" >>"/run/durable-$(basename "$1")"
  dd if=/dev/urandom of=noise bs=8k count=4 seek=$((RANDOM % 2000)) conv=notrunc status=none
done
`

const snapshotHook = "#!/bin/sh\necho $1 >>/run/hooked\n"

// TestSnapshotSource replicates logical volumes that are written to, through their snapshots.
func TestSnapshotSource(t *testing.T) {
	l := lab.New(t)
	ports := []int{lab.Port(t, l.Addr), lab.Port(t, stagingAddr(t, l))}
	m := Start(t, Build(t, Recipe{}), Options{HostPorts: ports, Disks: []int64{3 << 30}})
	program := buildTest(t, "./agent/source/lvm", "lvm.test")
	t.Logf("boot: %.0f s", m.WaitBoot().Seconds())
	v := &volumes{t: t, l: l, m: m}
	for _, port := range ports {
		m.Forward(limit(t), port)
	}
	v.setUp(program)

	t.Run("conformance", func(t *testing.T) {
		r, err := m.Run(limit(t), "env", "CI=1", "OPENMIGRATE_TEST_GROUP=vg1", "OPENMIGRATE_TEST_POOL=pool", "/usr/local/sbin/lvm.test", "-test.v", "-test.run", "^TestReal")
		if err != nil || r.Status != 0 || strings.Count(string(r.Stdout), "\n--- PASS: TestReal") != 3 {
			t.Fatalf("status %d, %v\n%s%s", r.Status, err, tail(string(r.Stdout), 6000), tail(string(r.Stderr), 2000))
		}
		for line := range strings.Lines(string(r.Stdout)) {
			if strings.Contains(line, "lost") || strings.HasPrefix(line, "--- PASS") {
				t.Log(strings.TrimSpace(line))
			}
		}
	})
	if t.Failed() {
		return
	}
	v.agent(thickVolume)
	t.Run("thick, ext4", func(t *testing.T) { v.restpoint(t, "filesystem", volume{"data", "ext4"}) })
	m.Shell(limit(t), "mkdir -p /etc/openmigrate/hooks.d; cat >/etc/openmigrate/hooks.d/test <<'END'\n"+snapshotHook+"END\nchmod 755 /etc/openmigrate/hooks.d/test")
	t.Run("with hooks", func(t *testing.T) {
		v.restpoint(t, "application", volume{"data", "ext4"})
		if got := m.Shell(limit(t), "cat /run/hooked; rm /run/hooked"); got != "freeze\nthaw\n" {
			t.Errorf("hooks were called with %q", got)
		}
	})
	t.Run("killed", v.killed)
	t.Run("frozen", v.frozen)
	v.agent(thinVolume)
	t.Run("thin, xfs", func(t *testing.T) { v.restpoint(t, "application", volume{"thin", "xfs"}) })
	v.agent(thickVolume, thinVolume)
	t.Run("both", func(t *testing.T) {
		p := v.restpoint(t, "fuzzy", volume{"data", "ext4"}, volume{"thin", "xfs"})
		for _, d := range p.Disks {
			if d.Consistency != "application" {
				t.Errorf("a volume for itself is %s", d.Consistency)
			}
		}
	})
	v.agent(thickVolume)
	t.Run("overflow", v.overflow)
	t.Run("no room", v.noRoom)
	m.Kill()
}

// volumes is the machine of these tests.
type volumes struct {
	t *testing.T
	l *lab.Lab
	m *Machine
}

// volume is one of them: its name, and what is on it.
type volume struct{ name, fs string }

func (v *volumes) setUp(program string) {
	v.t.Helper()
	ctx := limit(v.t)
	v.put(bytes.NewReader([]byte(snapshotWriter)), "/usr/local/sbin/snapshot-writer", 0o755)
	for from, to := range map[string]string{program: "lvm.test", filepath.Join(v.l.Bin, "openmigrate-agent"): "openmigrate-agent"} {
		if err := v.m.Put(ctx, from, "/usr/local/sbin/"+to, 0o755); err != nil {
			v.t.Fatal(err)
		}
	}
	v.put(xfsImage(v.t), "/run/xfs.gz", 0o600) // the machine has no mkfs.xfs
	v.m.Shell(ctx, `exec 2>&1
d=$(lsblk -bdnro NAME,SIZE | awk '$2 == 3221225472 { print "/dev/" $1 }')
vgcreate -q vg1 $d
lvcreate -q -y -L 256m -n data vg1
lvcreate -q -y -T -L 400m vg1/pool
lvcreate -q -y -V 320m --thinpool pool -n thin vg1
mkfs.ext4 -q /dev/vg1/data
gzip -dc /run/xfs.gz | dd of=/dev/vg1/thin bs=1M conv=sparse,fsync status=none
mkdir -p /srv/data /srv/thin
mount /dev/vg1/data /srv/data
mount /dev/vg1/thin /srv/thin
for d in data thin; do systemd-run --quiet --unit=writer-$d snapshot-writer /srv/$d; done`)
}

func (v *volumes) put(r io.Reader, to string, mode os.FileMode) {
	v.t.Helper()
	if err := v.m.channel.Put(limit(v.t), to, r, mode); err != nil {
		v.t.Fatal(err)
	}
}

// xfsImage is an empty file system of 320 MiB, compressed.
func xfsImage(t *testing.T) io.Reader {
	t.Helper()
	name := filepath.Join(t.TempDir(), "xfs")
	f, err := os.Create(name)
	if err == nil {
		err = errors.Join(f.Truncate(320<<20), f.Close())
	}
	if err == nil {
		_, err = command(t.Context(), "mkfs.xfs", "-q", name)
	}
	if err == nil {
		f, err = os.Open(name)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.Copy(z, f); err != nil || z.Close() != nil {
		t.Fatalf("compress: %v", err)
	}
	return &b
}

// agent has the machine's agent replicate these volumes.
func (v *volumes) agent(disks ...string) {
	v.t.Helper()
	v.m.Shell(limit(v.t), "systemctl stop openmigrate-agent 2>/dev/null || :; systemctl reset-failed openmigrate-agent 2>/dev/null || :\n"+
		"systemd-run --quiet --unit=openmigrate-agent openmigrate-agent run --token '"+v.l.Token("agent")+"' --name vm1 --disk "+strings.Join(disks, " --disk "))
	v.l.Eventually(2*time.Minute, "agent runs", func() error {
		var list []struct {
			ID    string
			State string
		}
		if v.l.JSON(&list, "machines", "ls"); len(list) != 1 {
			return fmt.Errorf("machines: %v", list)
		}
		r, err := v.m.Run(limit(v.t), "sh", "-c", "openmigrate-agent status; journalctl -n5 --no-pager -u openmigrate-agent")
		if err == nil && !strings.Contains(string(r.Stdout), "idle") && !strings.Contains(string(r.Stdout), "replicating") {
			err = errors.New(string(r.Stdout))
		}
		return err
	})
}

// restpoint makes one, and restores and examines each volume of it.
func (v *volumes) restpoint(t *testing.T, consistency string, all ...volume) restpoint {
	t.Helper()
	before := map[string]int{}
	for _, one := range all {
		before[one.name] = v.durable(t, one.name)
	}
	p := syncMachine(t, v.l)
	if p.Consistency != consistency || len(p.Disks) != len(all) {
		t.Errorf("consistency %s of %d volumes, want %s\n%s", p.Consistency, len(p.Disks), consistency,
			v.m.Shell(limit(t), "journalctl -n30 --no-pager -u openmigrate-agent"))
	}
	v.noneLeft(t)
	for i, one := range all {
		image := filepath.Join(t.TempDir(), one.name)
		if _, err := v.l.CLI("restpoints", "export", p.ID, "--disk", strconv.Itoa(i), "--to", image); err != nil {
			t.Fatal(err)
		}
		n := examine(t, one.fs, image)
		if after := v.durable(t, one.name); n < before[one.name] || n > after+1 {
			t.Errorf("%s: %d records; %d were durable before and %d afterwards", one.name, n, before[one.name], after)
		}
		t.Logf("%s: records 1 to %d; %d were durable before", one.name, n, before[one.name])
	}
	return p
}

// durable is the last record that the writer knows to be durable.
func (v *volumes) durable(t *testing.T, name string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(v.m.Shell(limit(t), "tail -n1 /run/durable-"+name)))
	if err != nil || n == 0 {
		t.Fatalf("the writer has written nothing: %v", err)
	}
	return n
}

// noneLeft: nothing is left in the group but what was there.
func (v *volumes) noneLeft(t *testing.T) {
	t.Helper()
	if out := v.m.Shell(limit(t), "lvs --noheadings -o lv_name vg1"); strings.Contains(out, "openmigrate_snap_") {
		t.Errorf("snapshots are left:\n%s", out)
	}
}

// examine checks a restored file system and returns how many records its journal has, without a gap.
func examine(t *testing.T, fs, image string) int {
	t.Helper()
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := command(t.Context(), name, args...)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	var journal string
	switch fs {
	case "ext4":
		if out := run("dumpe2fs", "-h", image); strings.Contains(out, "needs_recovery") {
			t.Errorf("the file system was not frozen:\n%s", out)
		}
		run("e2fsck", "-fn", image)
		journal = run("debugfs", "-R", "cat /journal", image)
	case "xfs":
		dir := t.TempDir()
		run("mount", "-o", "loop", image, dir)
		b, err := os.ReadFile(filepath.Join(dir, "journal"))
		run("umount", dir)
		if err != nil {
			t.Fatal(err)
		}
		run("xfs_repair", "-n", image)
		journal = string(b)
	}
	n := 0
	for line := range strings.Lines(journal) {
		if line == strconv.Itoa(n+1)+"\n" {
			n++
			continue
		}
		if rest := journal[len(journal)-len(line):]; rest != line {
			t.Errorf("%s: after record %d stands %.80q", fs, n, line)
		}
		break // the last one was being written
	}
	return n
}

// killed: the agent dies while a snapshot stands. The next start removes it, and not the one that only looks like it; and the hooks are
// called with thaw.
func (v *volumes) killed(t *testing.T) {
	const alike = "openmigrate_snap_0123456789abcdef"
	v.m.Shell(limit(t), "lvcreate -q -y -s -L 32m -n "+alike+" --addtag openmigrate.another vg1/data")
	cmd := v.l.Command("machines", "sync", "vm1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	v.m.Shell(limit(t), `pid=$(systemctl show -P MainPID openmigrate-agent)
timeout 300 sh -c 'until lvs --noheadings -o lv_name vg1 | grep openmigrate_snap_ | grep -qv `+alike+`; do :; done'
kill -KILL $pid`)
	left := v.m.Shell(limit(t), "lvs --noheadings -o lv_name,lv_tags vg1")
	if strings.Count(left, "openmigrate_snap_") != 2 {
		t.Errorf("killed too late:\n%s", left)
	}
	v.agent(thickVolume)
	v.l.Eventually(5*time.Minute, "the snapshot of the killed agent is removed", func() error {
		names := strings.Fields(v.m.Shell(limit(t), "lvs --noheadings -o lv_name vg1"))
		for old := range strings.SplitSeq(left, "\n") {
			f := strings.Fields(old)
			if len(f) == 2 && strings.HasPrefix(f[0], "openmigrate_snap_") && f[0] != alike && slices.Contains(names, f[0]) {
				return fmt.Errorf("left: %v", names)
			}
		}
		if !slices.Contains(names, alike) {
			t.Fatalf("somebody else's snapshot was removed: %v", names)
		}
		return nil
	})
	v.m.Shell(limit(t), "lvremove -q -y vg1/"+alike)
	v.restpoint(t, "application", volume{"data", "ext4"})
	v.m.Shell(limit(t), "rm -f /run/hooked")
}

// overflow: more is overwritten than the snapshot holds. That cycle makes no restpoint and says why, the next one reads without a snapshot, since
// there is no room for a larger one: nine tenths of 72 MiB are the 64 MiB of the first.
func (v *volumes) overflow(t *testing.T) {
	v.m.Shell(limit(t), `lvcreate -q -y -Wn -l 100%FREE -n filler vg1
lvreduce -q -f -y -L -72m vg1/filler
systemd-run --quiet --unit=flood sh -c 'while :; do dd if=/dev/zero of=/srv/data/flood bs=1M count=180 conv=notrunc oflag=direct status=none; done'`)
	p := syncMachine(t, v.l)
	v.m.Shell(limit(t), "systemctl stop flood; rm /srv/data/flood")
	v.fuzzy(t, p, "are overwritten while it is read")
	if show, err := v.l.CLI("machines", "show", "vm1"); err != nil || !bytes.Contains(show, []byte("snapshot-lost")) {
		t.Errorf("no event tells of the snapshot: %v\n%s", err, show)
	}
}

// noRoom: without a free extent the volume itself is read, and the operator is told what to do.
func (v *volumes) noRoom(t *testing.T) {
	v.m.Shell(limit(t), "lvextend -q -l +100%FREE vg1/filler")
	p := syncMachine(t, v.l)
	v.fuzzy(t, p, "vgextend")
}

// frozen: somebody else has frozen the file system, which the kernel does not suspend then. The volume itself is read.
func (v *volumes) frozen(t *testing.T) {
	v.m.Shell(limit(t), "fsfreeze -f /srv/data")
	p := syncMachine(t, v.l)
	v.m.Shell(limit(t), "fsfreeze -u /srv/data") // fails if it was thawed for its owner
	v.fuzzy(t, p, "no snapshot can be taken of vg1/data")
}

// fuzzy checks a restpoint that was made without snapshots, and that the operator is told why.
func (v *volumes) fuzzy(t *testing.T, p restpoint, why string) {
	t.Helper()
	if p.Consistency != "fuzzy" {
		t.Errorf("consistency %s\n%s", p.Consistency, v.m.Shell(limit(t), "journalctl -n30 --no-pager -u openmigrate-agent"))
	}
	v.l.Eventually(time.Minute, "machines show says why", func() error { // the agent's report comes after the restpoint
		show, err := v.l.CLI("machines", "show", "vm1")
		if err == nil && !bytes.Contains(show, []byte(why)) {
			err = errors.New(string(show))
		}
		return err
	})
	v.noneLeft(t)
}

// buildTest builds the tests of a package as a program.
func buildTest(t *testing.T, pkg, name string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(context.Background(), "go", "test", "-c", "-tags", "e2e", "-trimpath", "-o", name, pkg)
	cmd.Dir = lab.Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build tests of %s: %v\n%s", pkg, err, out)
	}
	return name
}
