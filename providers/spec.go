package providers

import (
	"net/netip"
)

// Limits of what a spec may hold: the narrowest of the clouds in DESIGN.md.
const (
	MaxToken    = 64  // characters: letters, digits, - and _
	MaxName     = 128 // bytes
	MaxTags     = 32
	MaxTagKey   = 127 // bytes
	MaxTagValue = 255 // bytes
	MaxSetting  = 4096
)

// ReservedTags begin the keys that providers keep for the owner and the token.
const ReservedTags = "openmigrate:"

// Source is what something is made from. The zero value is nothing: an empty disk.
type Source struct {
	Kind SourceKind `json:"kind,omitempty"`
	ID   string     `json:"id,omitempty"`
}

// Meta is what every create carries.
type Meta struct {
	// Token makes the create idempotent. It is chosen at random, or derived from a launch and its step, and written down before the call;
	// it is never used for a second thing, also not after the first was deleted.
	Token string            `json:"token"`
	Owner Owner             `json:"owner"`
	Name  string            `json:"name,omitempty"` // for people; need not be unique
	Tags  map[string]string `json:"tags,omitempty"` // the user's own
}

// VolumeSpec asks for a volume.
type VolumeSpec struct {
	Meta
	Size int64 `json:"size,omitempty"` // bytes; with a source 0 means its size, and less than that is ErrInvalid
	// Filled is how many bytes are expected to hold data, all of Size when 0. Places that allocate as it is written have room for that much.
	Filled int64  `json:"filled,omitempty"`
	From   Source `json:"from,omitzero"`
	// Thin lets the volume share the blocks of its source where that is cheaper (Capabilities.ThinClones). It is for the disks of
	// an instance: it has no attachment to a writer of the kind WriterFile, no snapshots and no clones. Its source may have to stay as long as it does.
	Thin     bool              `json:"thin,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Settings map[string]string `json:"settings,omitempty"`
}

// SnapshotSpec asks for a snapshot of a volume.
type SnapshotSpec struct {
	Meta
	Volume string `json:"volume"`
}

// BlockSnapshotSpec asks for a snapshot that is written block by block.
type BlockSnapshotSpec struct {
	Meta
	Size   int64  `json:"size"`             // bytes
	Parent string `json:"parent,omitempty"` // a snapshot of the same size, or smaller
}

// InstanceSpec asks for a machine.
type InstanceSpec struct {
	Meta
	Type         string            `json:"type"`
	Architecture Architecture      `json:"architecture"`
	Firmware     Firmware          `json:"firmware"`
	Bus          Bus               `json:"bus,omitempty"` // the type's first when empty
	Disks        []Disk            `json:"disks"`
	Boot         int               `json:"boot,omitempty"` // index of the disk that the firmware starts from
	NICs         []NIC             `json:"nics,omitempty"`
	Settings     map[string]string `json:"settings,omitempty"`
}

// Disk is one disk of an InstanceSpec.
type Disk struct {
	From Source `json:"from"` // a volume, which becomes the disk, or a snapshot, of which a volume is made
	// Delete removes the volume when the instance is terminated.
	Delete bool `json:"delete,omitempty"`
}

// NIC is one network card of an InstanceSpec.
type NIC struct {
	Network string     `json:"network"`          // Network.ID
	Groups  []string   `json:"groups,omitempty"` // security groups, where there are such
	MAC     string     `json:"mac,omitempty"`    // the provider's choice when empty
	Address netip.Addr `json:"address,omitzero"` // the provider's choice when zero
	Forward []uint16   `json:"forward,omitempty"`
}
