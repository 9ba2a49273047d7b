//go:build e2e

package convert

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/vm"
	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// The machine that is converted: drivers of its own disk controller only, and the root by a name that it has nowhere else.
// It has every program that can configure a network; a test leaves it the one that it is about.
var recipe = vm.Recipe{
	Modules:  []string{"virtio_pci", "virtio_scsi", "sd_mod", "ext4"},
	RootName: "/dev/sda3",
	Packages: []string{"ifupdown", "isc-dhcp-client", "netplan.io", "network-manager", "dracut-core", "cloud-init", "open-vm-tools"},
}

const sourceMAC = "52:54:00:aa:bb:cc"

// copyOf returns a copy of an image.
func copyOf(t *testing.T, image vm.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if out, err := exec.Command("cp", "--sparse=always", "--reflink=auto", image.Path, path).CombinedOutput(); err != nil {
		t.Fatalf("copy image: %v\n%s", err, out)
	}
	return path
}

// change gives fn the files of a disk's root.
func change(t *testing.T, path string, fn func(*tree.Tree)) {
	t.Helper()
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	err = disks.Private(t.Context(), func(space *disks.Space) error {
		return s.withRoot(space, false, func(t *tree.Tree) error { fn(t); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
}

// files are what a test writes, by path; "" removes.
type files map[string]string

func (f files) write(t *testing.T, tr *tree.Tree) {
	t.Helper()
	for name, text := range f {
		var err error
		if text == "" {
			err = tr.Remove(name)
		} else {
			err = tr.WriteFile(name, []byte(text), 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// oneNetwork takes all but one tool for networks out of the machine's boot.
func oneNetwork(keep string) files {
	off := files{"/etc/systemd/network/80-dhcp.network": ""}
	for tool, units := range map[string][]string{
		"networkd":       {"multi-user.target.wants/systemd-networkd.service"},
		"networkmanager": {"multi-user.target.wants/NetworkManager.service", "network-online.target.wants/NetworkManager-wait-online.service"},
		"ifupdown":       {"multi-user.target.wants/networking.service", "network-online.target.wants/networking.service"},
	} {
		if tool == keep || keep == "netplan" && tool == "networkd" {
			continue
		}
		for _, u := range units {
			off["/etc/systemd/system/"+u] = ""
		}
	}
	return off
}

// bound is a configuration for the source's card only, by name or by MAC address.
var bound = map[string]files{
	"ifupdown": {
		"/etc/network/interfaces":                   "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n\taddress 192.0.2.7/24\n\tgateway 192.0.2.1\n",
		"/etc/udev/rules.d/70-persistent-net.rules": "SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{address}==\"" + sourceMAC + "\", ATTR{type}==\"1\", NAME=\"eth0\"\n",
	},
	"netplan": {
		"/etc/netplan/50-cloud-init.yaml": "network:\n  version: 2\n  ethernets:\n    ens192:\n      match: {macaddress: \"" + sourceMAC + "\"}\n      set-name: ens192\n      addresses: [192.0.2.7/24]\n",
	},
	"networkmanager": {
		"/etc/NetworkManager/system-connections/ens192.nmconnection": "[connection]\nid=ens192\nuuid=0d9c5c1e-5b0a-4c37-8a9d-5d8f0c1d2e3f\ntype=ethernet\ninterface-name=ens192\n\n[ipv4]\nmethod=manual\naddress1=192.0.2.7/24\n",
		"/etc/NetworkManager/conf.d/none.conf":                       "[main]\nno-auto-default=*\n",
	},
	"networkd": {
		"/etc/systemd/network/10-lan.network": "[Match]\nMACAddress=" + sourceMAC + "\n\n[Network]\nAddress=192.0.2.7/24\n",
		"/etc/systemd/network/10-lan.link":    "[Match]\nMACAddress=" + sourceMAC + "\n\n[Link]\nName=lan\n",
	},
}

// convertTo detects and converts a disk, and shows what was done.
func convertTo(t *testing.T, path string, target Target) *Report {
	t.Helper()
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	report, err := Convert(t.Context(), s, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("converted in %.1f s", time.Since(began).Seconds())
	for _, c := range report.Changes {
		t.Logf("%s %s: %s", c.Action, c.Path, c.Reason)
	}
	for _, w := range report.Warnings {
		t.Logf("warning: %s", w)
	}
	return report
}

// The card and the network that QEMU gives a machine.
const (
	targetMAC = "52:54:00:12:34:56"
	leased    = "10.0.2.15"
)

// starts boots a disk and checks that it is up with the address that DHCP gives it.
func starts(t *testing.T, path string, o vm.Options) {
	t.Helper()
	startsAt(t, path, o, leased)
}

// startsAt boots a disk and checks that it is up with an address.
func startsAt(t *testing.T, path string, o vm.Options, address string) {
	t.Helper()
	o.HostPorts = []int{9} // which brings a network card
	// On a busy host a second emulated processor may lose its timer and hang the kernel's start.
	o.CPUs = 1
	m := vm.Start(t, vm.Image{Path: path}, o)
	took := m.WaitBoot()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	m.Shell(ctx, "timeout 100 sh -c 'until ip -4 -o addr show scope global | grep -qF "+address+"/; do sleep 0.2; done'")
	if err := m.WaitConsole(ctx, "login:"); err != nil {
		t.Error(err)
	}
	t.Logf("%s %s: up after %.0f s; root %s", o.Bus, o.Firmware, took.Seconds(), strings.TrimSpace(m.Shell(ctx, "findmnt -no SOURCE /")))
	if failed := m.Shell(ctx, "systemctl --failed --no-legend || true"); strings.TrimSpace(failed) != "" {
		t.Logf("failed units: %s", failed)
	}
	m.Kill()
}

// stuck boots a disk and expects that the initramfs does not find its root.
func stuck(t *testing.T, path string, o vm.Options) {
	t.Helper()
	o.CPUs = 1
	m := vm.Start(t, vm.Image{Path: path}, o)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := m.WaitConsole(ctx, "ALERT!"); err != nil {
		t.Error(err)
	}
	m.Kill()
}

// A machine tuned to its old hypervisor does not start on another one, and does after conversion.
func TestInitramfsTools(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	path := copyOf(t, vm.Build(t, recipe))
	change(t, path, func(tr *tree.Tree) {
		oneNetwork("ifupdown").write(t, tr)
		bound["ifupdown"].write(t, tr)
	})
	stuck(t, path, vm.Options{Bus: vm.VirtioBlk})
	convertTo(t, path, Target{Platform: KVM})
	if again := convertTo(t, path, Target{Platform: KVM}); len(again.Changes) != 0 {
		t.Errorf("a second conversion changed %+v", again.Changes)
	}
	for _, o := range []vm.Options{{Bus: vm.VirtioBlk}, {Bus: vm.NVMe}, {Bus: vm.NVMe, Firmware: vm.UEFI}} {
		starts(t, path, o)
	}
}

// Each tool for networks gives the card of the target an address.
func TestNetworks(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	image := vm.Build(t, recipe)
	for _, tool := range []string{"netplan", "networkmanager", "networkd"} {
		t.Run(tool, func(t *testing.T) {
			path := copyOf(t, image)
			change(t, path, func(tr *tree.Tree) {
				oneNetwork(tool).write(t, tr)
				bound[tool].write(t, tr)
			})
			convertTo(t, path, Target{Platform: KVM})
			starts(t, path, vm.Options{Bus: vm.VirtioBlk})
		})
	}
}

// A card gets the address that the launch template says, and no other.
func TestFixedAddress(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	image := vm.Build(t, recipe)
	for _, tool := range []string{"ifupdown", "networkd"} {
		t.Run(tool, func(t *testing.T) {
			path := copyOf(t, image)
			change(t, path, func(tr *tree.Tree) {
				oneNetwork(tool).write(t, tr)
				bound[tool].write(t, tr)
			})
			convertTo(t, path, Target{Platform: KVM, NICs: []NIC{{MAC: targetMAC, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.77/24")},
				Gateway: netip.MustParseAddr("10.0.2.2")}}})
			startsAt(t, path, vm.Options{Bus: vm.VirtioBlk}, "10.0.2.77")
		})
	}
}

// A root in LVM is converted without device mapper. The machine's own initramfs is spoilt, so that it is the new one that starts it.
func TestLVM(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	path := copyOf(t, vm.Build(t, vm.Recipe{Root: vm.LVM}))
	change(t, path, func(tr *tree.Tree) {
		for _, name := range tr.Glob("/boot", "initrd.img-*") {
			files{name: "spoilt"}.write(t, tr)
		}
	})
	convertTo(t, path, Target{Platform: KVM})
	starts(t, path, vm.Options{Bus: vm.NVMe})
}

// hideLoader leaves GRUB where only the old machine's firmware remembered it to be.
func hideLoader(t *testing.T, path string) {
	t.Helper()
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	esp := fmt.Sprintf("%s@@%d", path, s.Volumes[s.ESP].Start)
	loader := filepath.Join(t.TempDir(), "loader")
	for _, args := range [][]string{
		{"mcopy", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI", loader},
		{"mdeltree", "-i", esp, "::/EFI/BOOT"},
		{"mmd", "-i", esp, "::/EFI/debian"},
		{"mcopy", "-i", esp, loader, "::/EFI/debian/grubx64.efi"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}

// dracut takes the place of initramfs-tools, and the loader has to be put where any UEFI finds it.
func TestDracut(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	path := copyOf(t, vm.Build(t, recipe))
	change(t, path, func(tr *tree.Tree) {
		oneNetwork("networkd").write(t, tr)
		bound["networkd"].write(t, tr)
		files{"/usr/sbin/mkinitramfs": "", "/usr/sbin/update-initramfs": ""}.write(t, tr)
	})
	hideLoader(t, path)
	convertTo(t, path, Target{Platform: KVM, Firmware: UEFI})
	if again := convertTo(t, path, Target{Platform: KVM, Firmware: UEFI}); len(again.Changes) != 0 {
		t.Errorf("a second conversion changed %+v", again.Changes)
	}
	starts(t, path, vm.Options{Bus: vm.NVMe, Firmware: vm.UEFI})
}

// The drivers of platforms that cannot be tried here are in the initramfs.
func TestPlatforms(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	path := copyOf(t, vm.Build(t, recipe))
	for _, p := range []Platform{EC2, GCP, Azure, VMware} {
		report := convertTo(t, path, Target{Platform: p})
		if !strings.Contains(fmt.Sprint(report.Changes), "initrd.img") {
			t.Errorf("%s: no initramfs was built", p)
		}
	}
}
