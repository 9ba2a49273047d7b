//go:build e2e

package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
)

// TestAgent replicates the disk that a machine runs from, which reaches master and staging under a name of their own, compares a restpoint with the disk
// and starts another machine from one.
func TestAgent(t *testing.T) { replicate(t, Recipe{}) }

// TestAgentLVM does the same with the root on a logical volume: it is frozen through device mapper and tracked on the disk below.
func TestAgentLVM(t *testing.T) { replicate(t, Recipe{Root: LVM}) }

// unneeded are most of a machine's bytes, which a test need not carry.
const unneeded = "/usr/share/doc /usr/share/locale /usr/share/man /usr/share/i18n /var/cache/apt /var/lib/apt/lists " +
	"/lib/modules/*/kernel/sound /lib/modules/*/kernel/drivers/gpu /lib/modules/*/kernel/drivers/media " +
	"/lib/modules/*/kernel/drivers/net/wireless /lib/modules/*/kernel/drivers/net/ethernet /lib/modules/*/kernel/drivers/infiniband"

func replicate(t *testing.T, recipe Recipe) {
	l := lab.NewWith(t, lab.Options{Name: HostAddr})
	master, staging := lab.Port(t, l.Addr), lab.Port(t, stagingAddr(t, l))
	// On a busy host a second emulated processor may lose its timer and hang the kernel.
	m := Start(t, Build(t, recipe), Options{HostPorts: []int{master, staging}, CPUs: 1})
	t.Logf("boot: %.0f s", m.WaitBoot().Seconds())
	ctx := limit(t)
	if recipe.Root == LVM {
		// What snapshots need is there.
		m.Shell(ctx, "test $(findmnt -no SOURCE /) = /dev/mapper/vg0-root; lvcreate -q -y -s -l 10%FREE -n snap vg0/root; mount -o ro,noload /dev/vg0/snap /mnt; test -s /mnt/etc/fstab; "+
			"umount /mnt; lvremove -q -y vg0/snap")
	}
	m.Shell(ctx, "rm -rf "+unneeded+"; fstrim /; echo 'from the source' >/root/marker; sync")
	if err := m.Put(ctx, filepath.Join(l.Bin, "openmigrate-agent"), "/usr/local/sbin/openmigrate-agent", 0o755); err != nil {
		t.Fatal(err)
	}
	// Its state is in memory, so that it goes on when the disk is read-only; free space is sent, so that the disk can be compared.
	m.Shell(ctx, "systemd-run --quiet --unit=openmigrate-agent openmigrate-agent run"+
		" --token '"+l.Token("agent")+"' --name vm1 --disk /dev/sda --include-free --state-dir /run/openmigrate-agent")
	l.Eventually(2*time.Minute, "agent enrolled", func() error {
		var list []struct{ ID string }
		if l.JSON(&list, "machines", "ls"); len(list) == 0 {
			r, err := m.Run(limit(t), "journalctl", "-n5", "--no-pager", "-u", "openmigrate-agent")
			return errors.Join(errors.New("no machine: "+string(r.Stdout)), err)
		}
		return nil
	})
	syncMachine(t, l)
	// Again: by what was written only, under a writer. The ESP's file system is the one that cannot be frozen.
	m.Shell(limit(t), `echo 'and more' >>/root/marker; echo 'on the ESP' >/boot/efi/marker
systemd-run --quiet --unit=writer sh -c 'n=0; while :; do n=$((n+1)); echo $n >>/root/journal; sync -d /root/journal; dd if=/dev/urandom of=/root/noise bs=64k count=4 status=none; done'`)
	p := syncMachine(t, l)
	if p.Consistency != "filesystem" || p.Disks[0].Tracker != "ebpf" {
		t.Errorf("consistency %s, tracker %s\n%s", p.Consistency, p.Disks[0].Tracker,
			m.Shell(limit(t), "journalctl -n30 --no-pager -u openmigrate-agent"))
	}
	// And once more, when nothing can write any more: then the disk is what the restpoint must be.
	m.Shell(limit(t), "systemctl stop writer; sync; echo u >/proc/sysrq-trigger; timeout 60 sh -c 'until grep -q \"^[^ ]* / ext4 ro\" /proc/mounts; do sleep 0.2; done'")
	last := syncMachine(t, l)
	if last.Disks[0].Tracker != "ebpf" {
		t.Errorf("tracker %s", last.Disks[0].Tracker)
	}
	m.Kill()
	// This host does not reach itself under the name that the machine knew.
	l.Proc("master").Stop()
	l.Rename("")

	compare(t, export(t, l, last), m.disks[0])
	copied := export(t, l, p)
	if recipe.Root != LVM {
		checkRoot(t, fmt.Sprintf("%s?offset=%d", copied, rootStart*mib))
	}
	target := Start(t, Image{copied}, Options{CPUs: 1})
	t.Logf("copy boots in %.0f s", target.WaitBoot().Seconds())
	if err := target.WaitConsole(limit(t), "login:"); err != nil {
		t.Error(err)
	}
	ctx = limit(t)
	if out := target.Shell(ctx, "cat /root/marker /boot/efi/marker"); out != "from the source\nand more\non the ESP\n" {
		t.Errorf("the copy's marker is %q", out)
	}
	checks := target.Shell(ctx, "journalctl -b --no-pager -t systemd-fsck; dmesg | grep EXT4-fs")
	t.Logf("file systems at the copy's first boot: %s", checks)
	if strings.Contains(checks, "recovery complete") {
		t.Error("a journal was replayed: a file system was not frozen")
	}
	target.Kill()
}

// export restores a restpoint's disk.
func export(t *testing.T, l *lab.Lab, p restpoint) string {
	t.Helper()
	name := l.Path(p.ID + ".img")
	began := time.Now()
	if _, err := l.CLI("restpoints", "export", p.ID, "--disk", "0", "--to", name); err != nil {
		t.Fatal(err)
	}
	t.Logf("exported in %.0f s", time.Since(began).Seconds())
	return name
}

// compare compares a restored image with a machine's disk byte by byte.
func compare(t *testing.T, image, disk string) {
	t.Helper()
	out, err := command(t.Context(), "qemu-img", "compare", "-f", "raw", "-F", "qcow2", image, disk)
	if err != nil {
		t.Errorf("the restored disk is another: %v", err)
	}
	t.Logf("restored against the disk: %s", bytes.TrimSpace(out))
}

// checkRoot: the file system was frozen, and nothing is wrong with it.
func checkRoot(t *testing.T, image string) {
	t.Helper()
	out, err := command(t.Context(), "dumpe2fs", "-h", image)
	if err != nil || bytes.Contains(out, []byte("needs_recovery")) {
		t.Errorf("the root was not frozen: %v\n%s", err, out)
	}
	if out, err = command(t.Context(), "e2fsck", "-fn", image); err != nil {
		t.Errorf("the root is damaged: %v", err)
	}
	t.Logf("e2fsck: %s", bytes.TrimSpace(out))
}

// restpoint is what these tests look at.
type restpoint struct {
	ID, Consistency string
	Disks           []struct{ Tracker, Consistency string }
}

// stallLimit is how long a cycle may show no progress.
const stallLimit = 4 * time.Minute

// syncMachine makes a restpoint of the one machine and waits as long as that gets on, however slow an emulated machine is.
func syncMachine(t *testing.T, l *lab.Lab) restpoint {
	t.Helper()
	began := time.Now()
	cmd := l.Command("machines", "sync", "vm1", "--wait")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	look := time.NewTicker(2 * time.Second)
	defer look.Stop()
	var last string
	for moved := time.Now(); ; {
		select {
		case err := <-done:
			show, showErr := l.CLI("machines", "show", "vm1")
			t.Logf("synced in %.0f s\n%s", time.Since(began).Seconds(), show)
			if err := errors.Join(err, showErr); err != nil {
				t.Fatalf("sync: %v\n%s", err, said.String())
			}
			var list []restpoint
			if l.JSON(&list, "restpoints", "ls", "vm1"); len(list) == 0 || len(list[0].Disks) == 0 {
				t.Fatalf("no restpoint with a disk: %v", list)
			}
			return list[0]
		case <-look.C:
		}
		var now struct {
			Progress, Report json.RawMessage
			Restpoints       int
		}
		l.JSON(&now, "machines", "show", "vm1")
		if text := fmt.Sprintf("%s %s %d", now.Progress, now.Report, now.Restpoints); text != last {
			last, moved = text, time.Now()
		}
		if time.Since(moved) > stallLimit {
			_ = cmd.Process.Kill()
			t.Fatalf("nothing moved for %v (%v): %s\n%s", stallLimit, <-done, last, said.String())
		}
	}
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
