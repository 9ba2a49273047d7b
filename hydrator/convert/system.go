package convert

import (
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
)

// System is what Detect found on the disks of a machine. It has no open files and can be stored.
type System struct {
	Disks   []disks.Disk
	Volumes []disks.Volume
	Root    int      // index in Volumes
	Subvol  string   // of the root, when it is btrfs and not its default
	Mounts  []Mount  // what conversion mounts, the root first, parents before what is in them
	ESP     int      // index in Volumes of the EFI system partition, or -1
	Notes   []string // what will not work as before, in words

	OS         OS
	Arch       string // as GOARCH has it: amd64, arm64, …
	Initramfs  string // initramfs-tools, dracut, mkinitcpio
	Loaders    []string
	Kernels    []Kernel
	Networks   []string // ifupdown, netplan, networkmanager, ifcfg, networkd, wicked; the one in charge first
	GuestTools []string // those of hypervisors and clouds
	CloudInit  bool
	SELinux    bool // files must be labelled again after changes
	Multipath  bool
}

// OS is from os-release(5).
type OS struct {
	ID, Version, Name string
	Like              []string // ID, and what it says that it is like
}

// Mount is a file system that the machine mounts at boot and that conversion needs.
type Mount struct {
	Volume  int
	Point   string   // without symbolic links, relative to the root
	Options []string // btrfs: subvol
}

// Kernel is an installed kernel.
type Kernel struct {
	Release   string
	Image     string // path; "" if it was not found
	Initramfs string // path, whether it is there or not
}

// ErrRefused is what every refusal is, so that callers can tell it from a failure that may pass.
var ErrRefused = errors.New("this machine cannot be converted")

// refuse says why, and what the operator can do. Nothing has been changed then.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// root returns the root's volume.
func (s *System) root() disks.Volume { return s.Volumes[s.Root] }
