//go:build e2e

package convert

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/vm"
	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/fence"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// packages are every program that can configure a network or build an initramfs, besides what should not disturb; a test leaves the machine the ones that it is about.
var packages = []string{"ifupdown", "isc-dhcp-client", "netplan.io", "network-manager", "dracut-core", "cloud-init", "open-vm-tools"}

// prune takes out drivers that no platform has, most of what the making of an initramfs goes through.
const prune = `
cd /lib/modules/*/kernel
rm -rf sound drivers/gpu drivers/media drivers/infiniband drivers/firewire drivers/staging drivers/iio drivers/isdn drivers/usb/[d-gi-z]* drivers/net/wireless drivers/net/usb drivers/net/can
for vendor in drivers/net/ethernet/*; do
	case ${vendor##*/} in amazon|google|intel|microsoft) ;; *) rm -r "$vendor" ;; esac
done
depmod "$(ls /lib/modules)"
`

// source returns the disk of the machine that is converted: tuned to the disk controller that it has.
func source(t *testing.T) vm.Image {
	t.Helper()
	return vm.Modify(t, vm.Build(t, vm.Recipe{}), packages, prune+vm.Tune)
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

// inside runs a script in a disk's root, fenced as a conversion runs the machine's own programs.
func inside(t *testing.T, path, script string) {
	t.Helper()
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	err = disks.Private(t.Context(), func(space *disks.Space) error {
		return s.withRoot(space, false, func(*tree.Tree) error {
			_, err := fence.Run(t.Context(), fence.Command{Root: space.Dir(), Args: []string{"/bin/sh", "-eux", "-c", script}})
			return err
		})
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
	off := files{"/etc/systemd/network/80-dhcp.network": "", "/etc/network/interfaces": "auto lo\niface lo inet loopback\n"}
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

// A target has two cards, each on a network of its own in which QEMU leases one address: one gets a fixed address, as the launch template says, the other
// what it is given.
const (
	fixedMAC, fixed  = "52:54:00:00:00:01", "10.0.2.77/24"
	leasedMAC, lease = "52:54:00:00:00:02", "10.0.2.15/24"
)

var fixedNIC = NIC{MAC: fixedMAC, Addresses: []netip.Prefix{netip.MustParsePrefix(fixed)}, Gateway: netip.MustParseAddr("10.0.2.2")}

// addresses prints each card's addresses.
const addresses = `for card in /sys/class/net/e* /sys/class/net/l*; do
	[ -e "$card" ] && [ "${card##*/}" != lo ] || continue
	ip -4 -o addr show dev "${card##*/}" scope global | while read -r _ _ _ address _; do echo "$(cat "$card/address") $address"; done
done | sort`

// starts boots a disk and checks that it is up, that each of its cards has the address that it should have, by MAC, and no other.
func starts(t *testing.T, path string, o vm.Options, cards map[string]string) {
	t.Helper()
	want := ""
	for _, mac := range slices.Sorted(maps.Keys(cards)) {
		o.MACs = append(o.MACs, mac)
		want += mac + " " + cards[mac] + "\n"
	}
	// On a busy host a second emulated processor may lose its timer and hang the kernel's start.
	o.CPUs = 1
	m := vm.Start(t, vm.Image{Path: path}, o)
	defer m.Kill()
	took := m.WaitBoot()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	have := ""
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for began := time.Now(); have != want && time.Since(began) < 100*time.Second; <-again.C {
		have = m.Shell(ctx, addresses)
	}
	// After the login prompt nobody configures a card any more.
	if err := m.WaitConsole(ctx, "login:"); err != nil {
		t.Error(err)
	}
	if have = m.Shell(ctx, addresses); have != want {
		t.Errorf("the cards have\n%s, want\n%s\n%s", have, want, m.Shell(ctx, "ip addr; networkctl list --no-pager || true; journalctl -b --no-pager -p warning | tail -30"))
	}
	t.Logf("%s %s: up after %.0f s; root %s; cards\n%s", o.Bus, o.Firmware, took.Seconds(), strings.TrimSpace(m.Shell(ctx, "findmnt -no SOURCE /")), have)
	if failed := m.Shell(ctx, "systemctl --failed --no-legend || true"); strings.TrimSpace(failed) != "" {
		t.Logf("failed units: %s", failed)
	}
}

// stuck boots a disk and expects that the initramfs does not find its root.
func stuck(t *testing.T, path string, o vm.Options) {
	t.Helper()
	o.CPUs = 1
	m := vm.Start(t, vm.Image{Path: path}, o)
	defer m.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := m.WaitConsole(ctx, "ALERT!"); err != nil {
		t.Error(err)
	}
}

// A machine tuned to its old hypervisor does not start on another one, and does after conversion: by each tool for networks and for initramfs, on each kind
// of disk and with each firmware.
func TestMoved(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	image := source(t)
	for _, test := range []struct {
		network string
		o       vm.Options
	}{
		{"ifupdown", vm.Options{Bus: vm.VirtioBlk}},
		{"netplan", vm.Options{Bus: vm.NVMe}},
		{"networkmanager", vm.Options{Bus: vm.VirtioBlk, Firmware: vm.UEFI}},
		{"networkd", vm.Options{Bus: vm.NVMe, Firmware: vm.UEFI}},
	} {
		t.Run(test.network, func(t *testing.T) {
			path := copyOf(t, image)
			change(t, path, func(tr *tree.Tree) {
				oneNetwork(test.network).write(t, tr)
				bound[test.network].write(t, tr)
			})
			target := Target{Platform: KVM, NICs: []NIC{fixedNIC}}
			if test.o.Firmware == vm.UEFI {
				target.Firmware = UEFI
				hideLoader(t, path) // it has to be put where any UEFI finds it
			}
			if test.network == "ifupdown" {
				stuck(t, path, test.o)
			}
			initramfs(t, convertTo(t, path, target), "extended")
			if again := convertTo(t, path, target); len(again.Changes) != 0 {
				t.Errorf("a second conversion changed %+v", again.Changes)
			}
			starts(t, path, test.o, map[string]string{fixedMAC: fixed, leasedMAC: lease})
		})
	}
}

// initramfs makes sure that the machine's was extended or built.
func initramfs(t *testing.T, r *Report, action string) {
	t.Helper()
	i := slices.IndexFunc(r.Changes, func(c Change) bool { return strings.HasPrefix(c.Path, "/boot/initrd.img-") })
	if i < 0 || r.Changes[i].Action != action {
		t.Errorf("the initramfs was not %s", action)
	}
}

// spoil leaves no initramfs that could be extended.
func spoil(t *testing.T, path string) {
	t.Helper()
	change(t, path, func(tr *tree.Tree) {
		for _, name := range tr.Glob("/boot", "initrd.img-*") {
			files{name: "spoilt"}.write(t, tr)
		}
	})
}

// The machine's own tool makes an initramfs where the one that it has cannot be extended.
func TestBuilt(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	image := source(t)
	for tool, o := range map[string]vm.Options{"initramfs-tools": {Bus: vm.VirtioBlk}, "dracut": {Bus: vm.NVMe}} {
		t.Run(tool, func(t *testing.T) {
			path := copyOf(t, image)
			change(t, path, func(tr *tree.Tree) {
				oneNetwork("networkd").write(t, tr)
				if tool == "dracut" {
					files{"/usr/sbin/mkinitramfs": "", "/usr/sbin/update-initramfs": ""}.write(t, tr)
				}
			})
			spoil(t, path)
			initramfs(t, convertTo(t, path, Target{Platform: KVM}), "built")
			starts(t, path, o, map[string]string{leasedMAC: lease})
		})
	}
}

// An initramfs of dracut's is extended, too.
func TestDracut(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	path := copyOf(t, source(t))
	change(t, path, func(tr *tree.Tree) {
		oneNetwork("networkd").write(t, tr)
		files{"/usr/sbin/mkinitramfs": "", "/usr/sbin/update-initramfs": ""}.write(t, tr)
	})
	inside(t, path, `release=$(ls /lib/modules); dracut --force --no-hostonly --omit-drivers "nvme virtio_blk" "/boot/initrd.img-$release" "$release"`)
	o := vm.Options{Bus: vm.NVMe, Firmware: vm.UEFI}
	initramfs(t, convertTo(t, path, Target{Platform: KVM}), "extended")
	starts(t, path, o, map[string]string{leasedMAC: lease})
}

// A root in LVM is converted without device mapper.
func TestLVM(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	path := copyOf(t, vm.Build(t, vm.Recipe{Root: vm.LVM}))
	inside(t, path, prune+`
rm -f /etc/initramfs-tools/conf.d/vm
echo MODULES=list >/etc/initramfs-tools/conf.d/tuned
printf '%s\n' virtio_pci virtio_scsi sd_mod ext4 dm_mod >>/etc/initramfs-tools/modules
update-initramfs -u -k "$(ls /lib/modules)"
`)
	hideLoader(t, path)
	initramfs(t, convertTo(t, path, Target{Platform: KVM}), "extended")
	for _, o := range []vm.Options{{Bus: vm.NVMe, Firmware: vm.UEFI}, {Bus: vm.VirtioBlk}} {
		starts(t, path, o, map[string]string{leasedMAC: lease})
	}
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

// The drivers of platforms that cannot be tried here are in the initramfs. One is made for all of them together.
func TestPlatforms(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	path := copyOf(t, source(t))
	all := platform{name: "all platforms"}
	for _, p := range []Platform{EC2, GCP, Azure, VMware} {
		all.disks, all.nics = append(all.disks, platforms[p].disks...), append(all.nics, platforms[p].nics...)
	}
	const union Platform = "all"
	platforms[union] = all
	defer delete(platforms, union)
	var kernels []Kernel
	change(t, path, func(tr *tree.Tree) {
		kernels = readKernels(tr, "initramfs-tools")
		for _, k := range kernels {
			m, err := readModules(tr, k.Release)
			if err != nil {
				t.Error(err)
			}
			for _, d := range append(all.disks, all.nics...) {
				if !m.has(d) {
					t.Errorf("kernel %s has no driver for %s: %v", k.Release, d.name, d.modules)
				}
			}
		}
	})
	report := convertTo(t, path, Target{Platform: union})
	if len(kernels) != 1 || !slices.ContainsFunc(report.Changes, func(c Change) bool { return c.Path == kernels[0].Initramfs }) {
		t.Errorf("no initramfs was built for %+v", kernels)
	}
}
