//go:build e2e

package vm

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// trackerPackages are what the tests of agent/track/ebpf call.
var trackerPackages = []string{"btrfs-progs", "mdadm", "sqlite3", "xfsprogs"}

const trackerTest = "/usr/local/sbin/ebpf.test"

// trackerLimit bounds one run of the tests in the machine, most of which is emulated checking of the programs by the kernel.
const trackerLimit = 8 * time.Minute

// TestTracker runs the tests of agent/track/ebpf on a distribution's kernel, and on disks that the kernel of the tests may not
// have: on each bus, below LVM and below an md array.
func TestTracker(t *testing.T) {
	const size = 384 << 20
	m := Start(t, Modify(t, Build(t, Recipe{}), trackerPackages, ""), Options{
		Disks: []int64{size, size, size}, Buses: []Bus{VirtioSCSI, VirtioBlk, NVMe},
	})
	program := buildTest(t, "./agent/track/ebpf", "ebpf.test")
	m.WaitBoot()
	ctx := limit(t)
	if err := m.Put(ctx, program, trackerTest, 0o755); err != nil {
		t.Fatal(err)
	}
	// Names of SCSI disks depend on which was found first.
	scsi := strings.TrimSpace(m.Shell(ctx, "modprobe zram num_devices=0; readlink -f /dev/disk/by-id/scsi-*disk1 | head -n1"))
	const blk, nvme = "/dev/vda", "/dev/nvme0n1"
	t.Logf("kernel %s, disks %s %s %s", strings.TrimSpace(m.Shell(ctx, "uname -r")), scsi, blk, nvme)

	run := func(t *testing.T, pattern string, env ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), trackerLimit)
		defer cancel()
		began := time.Now()
		args := append([]string{"env", "CI=1"}, env...)
		r, err := m.Run(ctx, append(args, trackerTest, "-test.v", "-test.run", pattern)...)
		if err != nil || r.Status != 0 || !strings.Contains(string(r.Stdout), "--- PASS") {
			t.Fatalf("status %d, %v\n%s%s", r.Status, err, tail(string(r.Stdout), 6000), tail(string(r.Stderr), 2000))
		}
		for line := range strings.Lines(string(r.Stdout)) {
			if strings.Contains(line, "missed") || strings.Contains(line, "--- PASS") {
				t.Log(strings.TrimSpace(line))
			}
		}
		t.Logf("%.0f s", time.Since(began).Seconds())
	}
	disks := func(paths ...string) string { return "OPENMIGRATE_TEST_DISKS=" + strings.Join(paths, ",") }

	t.Run("package", func(t *testing.T) { run(t, "^(TestRefused|TestBioBased|TestConformance|TestDiscard)$") })
	t.Run("killed", func(t *testing.T) { run(t, "^TestTortureKilled$/^ext4$", "OPENMIGRATE_TORTURE_WITHOUT=postgres") })
	// Commands that are neither reads nor writes cost a scan: a failure should show which they were, and whose.
	const events = "/sys/kernel/tracing/events/scsi/scsi_dispatch_cmd_start/enable"
	m.Shell(limit(t), "echo 1 >"+events)
	if !t.Run("disks", func(t *testing.T) { run(t, "^TestDisks$", disks(scsi, blk, nvme)) }) {
		t.Logf("SCSI commands:\n%s", m.Shell(limit(t), "grep -v -e '=(READ_' -e '=(WRITE_' /sys/kernel/tracing/trace | tail -n 60"))
	}
	m.Shell(limit(t), "echo 0 >"+events)

	// One partition from 1 MiB to the end, which has no program in a minimal system.
	const part = `
printf '\000\000\000\000\203\000\000\000\000\010\000\000\000\370\013\000' | dd of=%[1]s bs=1 seek=446 conv=notrunc status=none
printf '\125\252' | dd of=%[1]s bs=1 seek=510 conv=notrunc,fsync status=none
blockdev --rereadpt %[1]s
udevadm settle`
	for _, s := range []struct {
		name, fs, top, make, unmake string
		disks                       []string
	}{
		{"partition of virtio-scsi", "ext4", scsi + "1", fmt.Sprintf(part, scsi), "", []string{scsi}},
		{"partition of virtio-blk", "xfs", blk + "1", fmt.Sprintf(part, blk), "", []string{blk}},
		{"partition of NVMe", "btrfs", nvme + "p1", fmt.Sprintf(part, nvme), "", []string{nvme}},
		{
			"LVM over two disks, with a snapshot", "ext4", "/dev/vg1/data",
			"vgcreate -q vg1 " + blk + " " + nvme + "; lvcreate -q -y -i2 -L400m -n data vg1; lvcreate -q -y -s -L300m -n snap vg1/data",
			"vgremove -q -y vg1", []string{blk, nvme},
		},
		{
			"md raid1", "xfs", "/dev/md7",
			"mdadm --create /dev/md7 --run --assume-clean --metadata=1.2 --level=1 --raid-devices=2 " + blk + " " + nvme,
			"mdadm --stop /dev/md7", []string{blk, nvme},
		},
	} {
		t.Run(s.name, func(t *testing.T) {
			shell := func(script string) {
				t.Helper()
				if r, err := m.Run(limit(t), "sh", "-e", "-c", script); err != nil || r.Status != 0 {
					t.Fatalf("%s: status %d, %v\n%s%s", script, r.Status, err, r.Stdout, r.Stderr)
				}
			}
			shell("wipefs -qa " + strings.Join(s.disks, " ") + "; udevadm settle; " + s.make)
			run(t, "^TestStack$", disks(s.disks...), "OPENMIGRATE_TEST_TOP="+s.top, "OPENMIGRATE_TEST_FILE_SYSTEM="+s.fs)
			shell(s.unmake + "\nfor d in " + strings.Join(s.disks, " ") + "; do wipefs -qa $d; blockdev --rereadpt $d; done")
		})
	}

	t.Run("restarts", func(t *testing.T) {
		run(t, "^TestLeave$", disks(blk))
		m.Shell(limit(t), "dd if=/dev/urandom of="+blk+" bs=4096 count=1 seek=2 oflag=direct status=none")
		run(t, "^TestReturn$", disks(blk), "OPENMIGRATE_TEST_EXPECT=marks")
		t.Logf("reboot: %.0f s", m.Reboot().Seconds())
		run(t, "^TestReturn$", disks(blk), "OPENMIGRATE_TEST_EXPECT=scan")
	})
	m.Kill()
}
