package convert

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/fat"
)

// espWith is an editor for a machine whose ESP, from 1 MiB of its disk on, has these files.
func espWith(t *testing.T, files map[string]string) *editor {
	t.Helper()
	const start, size = 1 << 20, 40 << 20
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, start+size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mformat", "-i", path+"@@1M", "-T", "81920", "::").CombinedOutput(); err != nil {
		t.Fatalf("mformat: %v\n%s", err, out)
	}
	s := &System{Disks: []disks.Disk{{Path: path}}, Arch: "amd64", Volumes: []disks.Volume{
		{Start: start, Size: size, Type: "vfat", UUID: "1234-ABCD"}, {LV: "rl/root", Type: "xfs", UUID: "u"}}, Root: 1}
	esp := openESP(t, s)
	for name, text := range files {
		if err := esp.MkdirAll(filepath.Dir(name)); err != nil {
			t.Fatal(err)
		}
		if err := esp.WriteFile(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return &editor{system: s, target: Target{Platform: KVM, Firmware: UEFI}, report: &Report{}}
}

func openESP(t *testing.T, s *System) *fat.FS {
	t.Helper()
	f, err := os.OpenFile(s.Disks[0].Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	esp, err := fat.Open(section{f, s.Volumes[0]}, s.Volumes[0].Size)
	if err != nil {
		t.Fatal(err)
	}
	return esp
}

func TestEFI(t *testing.T) {
	const menu = "search --fs-uuid --set=root u\nset kernelopts=\"root=/dev/sda2 ro\"\nlinuxefi /vmlinuz root=/dev/mapper/rl-root ro resume=UUID=gone\n"
	for name, test := range map[string]struct {
		files, want map[string]string
		fails       string
	}{
		"shim": {map[string]string{"EFI/rocky/shimx64.efi": "shim", "EFI/rocky/grubx64.efi": "grub", "EFI/rocky/mmx64.efi": "mm", "EFI/rocky/grub.cfg": menu},
			map[string]string{"EFI/BOOT/BOOTX64.EFI": "shim", "EFI/BOOT/GRUBX64.EFI": "grub", "EFI/BOOT/MMX64.EFI": "mm", "EFI/rocky/GRUBCFG.OM": menu,
				"EFI/rocky/grub.cfg": "search --fs-uuid --set=root u\nset kernelopts=\"root=/dev/mapper/rl-root ro console=tty0 console=ttyS0,115200\"\nlinuxefi /vmlinuz root=/dev/mapper/rl-root ro console=tty0 console=ttyS0,115200\n"}, ""},
		"GRUB alone":    {map[string]string{"EFI/debian/grubx64.efi": "grub"}, map[string]string{"EFI/BOOT/BOOTX64.EFI": "grub"}, ""},
		"already there": {map[string]string{"EFI/debian/grubx64.efi": "grub", "EFI/BOOT/BOOTX64.EFI": "other"}, map[string]string{"EFI/BOOT/BOOTX64.EFI": "other"}, ""},
		"nothing":       {map[string]string{"EFI/debian/readme": "x"}, nil, "no boot loader was found"},
	} {
		t.Run(name, func(t *testing.T) {
			e := espWith(t, test.files)
			err := convertEFI(e.system, e)
			if (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Fatal(err)
			}
			esp := openESP(t, e.system)
			for name, want := range test.want {
				if b, err := esp.ReadFile(name); err != nil || string(b) != want {
					t.Errorf("%s is %q, %v; want %q", name, b, err, want)
				}
			}
			e.report = &Report{}
			if err := convertEFI(e.system, e); (err == nil) != (test.fails == "") || len(e.report.Changes) != 0 {
				t.Errorf("a second conversion changed %+v, %v", e.report.Changes, err)
			}
		})
	}
}
