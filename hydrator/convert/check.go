package convert

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// Check says whether Convert would take the system that Detect found: ErrRefused, with what to do, if not. Nothing is written. It needs root.
func Check(ctx context.Context, found *System, target Target) error {
	if err := target.validate(); err != nil {
		return err
	}
	s := *found
	if err := s.same(); err != nil {
		return err
	}
	err := disks.Private(ctx, func(space *disks.Space) error {
		return s.withRoot(space, true, func(t *tree.Tree) error { return s.check(t, target) })
	})
	if err != nil {
		return fmt.Errorf("check system: %w", err)
	}
	return nil
}

// validate refuses a target that makes no sense.
func (t Target) validate() error {
	p, ok := platforms[t.Platform]
	if !ok {
		return refuse("platform %q is not known: use kvm, ec2, gcp, azure or vmware", t.Platform)
	}
	if t.Disk != "" && !slices.ContainsFunc(p.disks, func(d device) bool { return d.name == t.Disk }) {
		return refuse("%s has no disks of kind %q", p.name, t.Disk)
	}
	if t.Firmware != "" && t.Firmware != BIOS && t.Firmware != UEFI {
		return refuse("firmware %q is not known: use bios or uefi", t.Firmware)
	}
	if len(t.Mark) > maxMark {
		return refuse("the copy's mark has %d bytes: %d at most", len(t.Mark), maxMark)
	}
	if len(t.NICs) > 64 {
		return refuse("the target has %d network cards with fixed addresses: 64 at most", len(t.NICs))
	}
	for _, n := range t.NICs {
		if mac, err := net.ParseMAC(n.MAC); err != nil || len(mac) != 6 {
			return refuse("%q is no MAC address", n.MAC)
		}
		if len(n.Addresses) == 0 {
			return refuse("network card %s has no address: leave it out to use DHCP", n.MAC)
		}
		for _, a := range n.Addresses {
			if !a.IsValid() {
				return refuse("network card %s has an address that is none", n.MAC)
			}
		}
	}
	return nil
}

// check looks for all that would make a conversion fail, before the first change.
func (s *System) check(t *tree.Tree, target Target) error {
	if err := s.inspect(t); err != nil {
		return err
	}
	switch {
	case s.Initramfs == "":
		return refuse("none of initramfs-tools, dracut and mkinitcpio is installed, so no initramfs with the target's drivers can be made: install one on the source")
	case len(s.Kernels) == 0:
		return refuse("no kernel was found: /boot has no vmlinuz that belongs to a folder of /lib/modules")
	case len(s.Loaders) == 0:
		return refuse("no configuration of GRUB, of extlinux or of the Boot Loader Specification was found in /boot")
	}
	var first error
	usable := 0
	for _, k := range s.Kernels {
		m, err := readModules(t, k.Release)
		if err != nil {
			return err
		}
		if _, err := drivers(k, m, target); err == nil {
			usable++
		} else if !errors.Is(err, ErrRefused) {
			return err
		} else if first == nil {
			first = err
		}
	}
	if usable == 0 {
		return first
	}
	return s.checkFirmware(target.Firmware)
}

// checkFirmware refuses a firmware that the machine has no boot loader for.
func (s *System) checkFirmware(want Firmware) error {
	bios := slices.ContainsFunc(s.Disks, func(d disks.Disk) bool { return d.BootCode })
	switch {
	case s.ESP < 0 && !slices.ContainsFunc(s.Disks, func(d disks.Disk) bool { return d.Code }):
		return refuse("no disk can start a machine: none has a boot loader in its first sector, and none an EFI system partition; is the boot disk " +
			"among those that are replicated? A machine that its hypervisor starts with a kernel from outside needs a boot loader of its own first")
	case want == BIOS && !bios && s.ESP >= 0:
		return refuse("the machine starts from UEFI only: no disk has GRUB in its first sector; choose UEFI for the target")
	case want == UEFI && s.ESP < 0:
		return refuse("the machine starts from BIOS only: no disk has an EFI system partition; choose BIOS for the target")
	}
	return nil
}
