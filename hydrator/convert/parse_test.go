package convert

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

func TestGrubEnv(t *testing.T) {
	text := grubEnvHeader + "saved_entry=x\nkernelopts=root=/dev/sda1 ro resume=/dev/sda9\nboot_success=0\n"
	b := []byte(text + strings.Repeat("#", grubEnvSize-len(text)))
	want := grubEnvHeader + "saved_entry=x\nkernelopts=root=UUID=8f2a1c5e-0f6b-4c6e-9b8f-1f1a2b3c4d5e ro console=tty0 console=ttyS0,115200\nboot_success=0\n"
	got := someone().grubEnv(b)
	if len(got) != grubEnvSize || strings.TrimRight(string(got), "#") != want {
		t.Errorf("%d bytes:\n%s", len(got), got)
	}
	// One that is full, and one that is none, stay as they are.
	full := grubEnvHeader + "kernelopts=root=/dev/sda1 " + strings.Repeat("x", 940)
	full += "\n" + strings.Repeat("#", grubEnvSize-len(full)-1)
	for _, b := range []string{full, text, strings.Repeat("x", grubEnvSize)} {
		e := someone()
		if got := e.grubEnv([]byte(b)); string(got) != b {
			t.Errorf("became %q", got)
		}
		if (b == full) != (len(e.report.Warnings) == 1) {
			t.Errorf("warnings: %q", e.report.Warnings)
		}
	}
}

func TestFind(t *testing.T) {
	s := &System{Volumes: []disks.Volume{
		{Disk: 0, Partition: 1, Type: "vfat", UUID: "1234-ABCD", PartUUID: "AA-01"},
		{Disk: 0, Partition: 2, Type: "ext4", UUID: "u2", Label: "my root", PartName: "r"},
		{Disk: 1, Partition: 1, Type: "xfs", UUID: "u3"},
		{Disk: 1, Partition: 2, Type: "swap", UUID: "u4"},
		{LV: "my-vg/root-lv", Type: "xfs", UUID: "u5"},
		{LV: "vg/swap", Type: "swap", UUID: "u6"},
	}}
	for _, test := range []struct {
		source, kind string
		want         int
		how          how
	}{
		{"UUID=1234-abcd", "vfat", 0, byID}, {"UUID=\"u2\"", "", 1, byID}, {`LABEL=my\040root`, "", 1, byID}, {"/dev/disk/by-label/my\\x20root", "", 1, byID},
		{"PARTUUID=aa-01", "", 0, byID}, {"PARTLABEL=r", "", 1, byID}, {"UUID=u9", "", -1, byNothing}, {"UUID=", "", -1, byNothing},
		{"/dev/sda2", "ext3", 1, byName}, {"/dev/xvdb1", "xfs", 2, byName}, {"/dev/nvme1n1p1", "xfs", 2, byName}, {"/dev/vdb2", "swap", 3, byName},
		{"/dev/hda2", "swap", 3, byGuess}, {"/dev/sdc2", "", 1, byGuess}, {"/dev/sda3", "ext4", -1, byNothing}, {"/dev/mmcblk0p2", "ext4", 1, byName},
		{"/dev/cciss/c0d1p1", "xfs", 2, byName},
		{"/dev/mapper/my--vg-root--lv", "xfs", 4, byID}, {"/dev/my-vg/root-lv", "", 4, byID}, {"/dev/vg/swap", "swap", 5, byID},
		{"/dev/disk/by-id/ata-X-part2", "ext4", 1, byGuess}, {"/dev/disk/by-path/pci-0000:00:1f.2-ata-1-part1", "xfs", 2, byGuess},
		{"/dev/mapper/mpatha2", "ext4", 1, byGuess}, {"/dev/mapper/mpathap2", "ext4", 1, byGuess}, {"/dev/mapper/mpatha-part2", "ext4", 1, byGuess},
		{"", "", -1, byNothing}, {"/dev/", "", -1, byNothing}, {"tmpfs", "tmpfs", -1, byNothing},
	} {
		if i, how := s.find(test.source, test.kind); i != test.want || how != test.how {
			t.Errorf("%s (%s): %d by %d, want %d by %d", test.source, test.kind, i, how, test.want, test.how)
		}
	}
}

func TestDriverTable(t *testing.T) {
	dep, builtin := "kernel/drivers/nvme/host/nvme.ko.xz: kernel/drivers/nvme/host/nvme-core.ko.xz\nkernel/drivers/net/ena.ko:\n", "kernel/drivers/scsi/sd_mod.ko\nkernel/drivers/virtio/virtio_pci.ko\n"
	m := loadFiles(t, map[string]string{"lib/modules/6.1/modules.dep": dep, "lib/modules/6.1/modules.builtin": builtin})
	modules, err := readModules(m, "6.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		target Target
		want   string
		refuse string
	}{
		{Target{Platform: EC2}, "nvme ena", ""},
		{Target{Platform: KVM}, "nvme", ""},
		{Target{Platform: KVM, Disk: "nvme"}, "nvme", ""},
		{Target{Platform: KVM, Disk: "virtio-blk"}, "", "virtio-blk (virtio_pci, virtio_blk)"},
		{Target{Platform: Azure}, "", "no driver for the disks of Microsoft Azure"},
		{Target{Platform: "vax"}, "", `"vax" is not known`},
		{Target{Platform: KVM, Disk: "tape"}, "", `"tape"`},
	} {
		got, err := drivers(Kernel{Release: "6.1"}, modules, test.target)
		if strings.Join(got, " ") != test.want || (err == nil) != (test.refuse == "") || err != nil && !strings.Contains(err.Error(), test.refuse) {
			t.Errorf("%+v: %q, %v", test.target, got, err)
		}
	}
	// Every platform has what a conversion relies on.
	for name, p := range platforms {
		if p.name == "" || len(p.disks) == 0 || len(p.nics) == 0 || len(p.datasources) == 0 {
			t.Errorf("the table of %s has gaps", name)
		}
		if err := (Target{Platform: name}).validate(); err != nil {
			t.Error(err)
		}
	}
}

func loadFiles(t *testing.T, files map[string]string) *tree.Tree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}
