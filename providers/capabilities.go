package providers

import (
	"fmt"
	"slices"
)

// Firmware starts the boot loader.
type Firmware string

// Firmwares.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Architecture is a processor's, as GOARCH names it.
type Architecture string

// Architectures.
const (
	AMD64 Architecture = "amd64"
	ARM64 Architecture = "arm64"
)

// Bus is how a machine sees its disks, which says what drivers its system needs.
type Bus string

// Buses.
const (
	VirtioBlk  Bus = "virtio-blk"
	VirtioSCSI Bus = "virtio-scsi"
	NVMe       Bus = "nvme"
	AHCI       Bus = "ahci"
	PVSCSI     Bus = "pvscsi"
	XenBlk     Bus = "xen-blk"
)

// Platform names the virtual hardware, for the choice of drivers in a conversion.
type Platform string

// Platforms.
const (
	PlatformKVM      Platform = "kvm"
	PlatformEC2Nitro Platform = "ec2-nitro"
	PlatformEC2Xen   Platform = "ec2-xen"
	PlatformVMware   Platform = "vmware"
	PlatformGCP      Platform = "gcp"
	PlatformAzure    Platform = "azure"
)

// WriterKind is a way to put content onto volumes.
type WriterKind string

// The ways.
const (
	WriterFile   WriterKind = "file"   // the volume is a file on the provider's host
	WriterDevice WriterKind = "device" // the volume is attached to an instance at the provider, in which the hydrator runs
)

// SourceKind is what a volume or an instance's disk is made from.
type SourceKind string

// Kinds of source.
const (
	FromNothing  SourceKind = ""
	FromSnapshot SourceKind = "snapshot"
	FromVolume   SourceKind = "volume"
)

// Capabilities say what a provider can do. Lists are in order of preference.
type Capabilities struct {
	Provider string `json:"provider"` // "qemu", "aws"
	// Notes are facts for people about this account or host, such as how machines are accelerated and why.
	Notes []string `json:"notes,omitempty"`
	// Unusable says why no machine can be run now, such as a program that is missing, and what to do. Empty: nothing is known to be in the way.
	Unusable string `json:"unusable,omitempty"`

	Zones         []string     `json:"zones,omitempty"`       // none: there is only one place
	MinVolume     int64        `json:"min_volume"`            // bytes
	MaxVolume     int64        `json:"max_volume"`            // bytes
	VolumeStep    int64        `json:"volume_step"`           // bytes: sizes are rounded up to a multiple
	VolumeSources []SourceKind `json:"volume_sources"`        // without FromVolume, Clone goes by way of a snapshot
	ThinClones    bool         `json:"thin_clones,omitempty"` // VolumeSpec.Thin saves something
	SnapshotInUse bool         `json:"snapshot_in_use,omitempty"`
	Writers       []WriterKind `json:"writers,omitempty"`
	// SnapshotBlocks: the provider is a SnapshotWriter. Nil: it is not.
	SnapshotBlocks *BlockLimits `json:"snapshot_blocks,omitempty"`
	Lazy           bool         `json:"lazy,omitempty"` // it is a LazyVolumes

	InstanceSources []SourceKind `json:"instance_sources"` // what Disk.From may be
	MaxDisks        int          `json:"max_disks"`
	MaxNICs         int          `json:"max_nics"`
	MAC             bool         `json:"mac,omitempty"`      // NIC.MAC can be chosen
	Address         bool         `json:"address,omitempty"`  // NIC.Address can be chosen
	Forwards        bool         `json:"forwards,omitempty"` // NIC.Forward works
	Console         bool         `json:"console,omitempty"`
	Screenshot      bool         `json:"screenshot,omitempty"`

	// ConcurrentTokens: several creates with one token may run at once.
	ConcurrentTokens bool `json:"concurrent_tokens,omitempty"`
	// Settings that only this provider knows, for VolumeSpec and InstanceSpec.
	VolumeSettings   []Setting `json:"volume_settings,omitempty"`
	InstanceSettings []Setting `json:"instance_settings,omitempty"`
}

// BlockLimits bound a SnapshotWriter.
type BlockLimits struct {
	Size       int   `json:"size"`        // bytes of a block
	PerSecond  int   `json:"per_second"`  // blocks, for the account and for each snapshot; 0: no limit
	MaxPending int   `json:"max_pending"` // snapshots that are open at once; 0: no limit
	MaxBlocks  int64 `json:"max_blocks"`  // of one snapshot
}

// Setting is something that a template may set for one provider.
type Setting struct {
	Name   string   `json:"name"`
	Help   string   `json:"help"`
	Values []string `json:"values,omitempty"` // none: free text
}

// CanMakeVolumeFrom reports whether volumes can be made from that kind of thing.
func (c *Capabilities) CanMakeVolumeFrom(k SourceKind) bool {
	return slices.Contains(c.VolumeSources, k)
}

// CanMakeInstanceFrom reports whether an instance's disks can be given as that kind of thing.
func (c *Capabilities) CanMakeInstanceFrom(k SourceKind) bool {
	return slices.Contains(c.InstanceSources, k)
}

// RoundSize is the size that a volume of size bytes gets. ErrInvalid if it gets none.
func (c *Capabilities) RoundSize(size int64) (int64, error) {
	size = max(size, c.MinVolume)
	if size <= 0 || size > c.MaxVolume {
		return 0, fmt.Errorf("volume of %d bytes: %w: sizes go from %d to %d bytes", size, ErrInvalid, max(c.MinVolume, 1), c.MaxVolume)
	}
	if over := size % max(c.VolumeStep, 1); over != 0 {
		size += c.VolumeStep - over
	}
	return size, nil
}

// InstanceType is an entry of the catalogue.
type InstanceType struct {
	ID            string         `json:"id"`
	CPUs          int            `json:"cpus"`
	Memory        int64          `json:"memory"` // bytes
	Architectures []Architecture `json:"architectures"`
	Firmware      []Firmware     `json:"firmware"`
	Buses         []Bus          `json:"buses"` // in order of preference
	Platform      Platform       `json:"platform"`
}

// Network is where an instance's card can be plugged in.
type Network struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Zone string `json:"zone,omitempty"` // instances on it, and so their volumes, must be there
	// Isolated: nothing that an instance sends gets out of it. Test launches want one.
	Isolated bool `json:"isolated,omitempty"`
	// Direct: its addresses are not the provider's to give: NIC.Address and NIC.Forward are ErrInvalid on it, whatever Capabilities say.
	Direct bool   `json:"direct,omitempty"`
	Help   string `json:"help,omitempty"`
}

// Need is what a machine asks of an instance type. Zero fields ask for nothing.
type Need struct {
	CPUs         int
	Memory       int64 // bytes
	Architecture Architecture
	Firmware     Firmware
	Bus          Bus
}

// Pick returns the smallest type that satisfies a need: the least memory, then the fewest processors. ErrInvalid if there is none.
func Pick(types []InstanceType, need Need) (InstanceType, error) {
	var best *InstanceType
	for i := range types {
		t := &types[i]
		if t.CPUs < need.CPUs || t.Memory < need.Memory || !has(t.Architectures, need.Architecture) ||
			!has(t.Firmware, need.Firmware) || !has(t.Buses, need.Bus) {
			continue
		}
		if best == nil || t.Memory < best.Memory || t.Memory == best.Memory && t.CPUs < best.CPUs {
			best = t
		}
	}
	if best == nil {
		return InstanceType{}, fmt.Errorf("choose an instance type: %w: none of %d has %d processors, %d MiB of memory%s; name a type in the launch template",
			ErrInvalid, len(types), need.CPUs, need.Memory>>20, need.words())
	}
	return *best, nil
}

func has[T ~string](have []T, want T) bool { return want == "" || slices.Contains(have, want) }

func (n Need) words() (s string) {
	for _, w := range []string{string(n.Architecture), string(n.Firmware), string(n.Bus)} {
		if w != "" {
			s += ", " + w
		}
	}
	return s
}
