package wire

// InventoryVersion is the version of Inventory that this code writes. A reader takes any: fields are only ever added.
const InventoryVersion = 1

// Limits of an Inventory. The agent cuts each list to its limit and adds a note; the master refuses an inventory that is over one.
const (
	MaxInventoryDevices  = 512  // block devices
	MaxPartitions        = 256  // of one device
	MaxFilesystems       = 512  // mounted
	MaxInterfaces        = 256  // network interfaces
	MaxAddresses         = 64   // of one interface
	MaxRoutes            = 512  //
	MaxServices          = 1024 //
	MaxSwaps             = 64   //
	MaxVolumeGroups      = 128  //
	MaxInventoryNotes    = 128  //
	MaxInventoryText     = 1024 // bytes of one string
	MaxInventoryRelation = 128  // holders or slaves of one device
)

// Inventory is what an agent knows about its host. Every part that could not be read is left at its zero value, and
// Notes says why: an inventory is never refused because a host is unusual. Sizes are bytes. It holds no secrets, and
// nothing in it identifies the host to a third party (MachineID is a keyed hash).
type Inventory struct {
	Version      int             `json:"version"`
	Hostname     string          `json:"hostname"`
	OS           OSRelease       `json:"os"`
	Kernel       Kernel          `json:"kernel"`
	CPU          CPU             `json:"cpu"`
	MemoryBytes  int64           `json:"memory_bytes"`
	Firmware     Firmware        `json:"firmware"`
	Platform     Platform        `json:"platform"`
	BootID       string          `json:"boot_id,omitempty"`
	MachineID    string          `json:"machine_id,omitempty"` // a hash of /etc/machine-id; the id itself never leaves the host
	Fingerprint  string          `json:"fingerprint,omitempty"`
	Devices      []BlockDevice   `json:"devices"`
	Filesystems  []Filesystem    `json:"filesystems,omitempty"`
	Swaps        []Swap          `json:"swaps,omitempty"`
	VolumeGroups []VolumeGroup   `json:"volume_groups,omitempty"`
	Interfaces   []Interface     `json:"interfaces,omitempty"`
	Routes       []Route         `json:"routes,omitempty"`
	Services     []string        `json:"services,omitempty"` // names of the systemd units that start at boot
	Notes        []InventoryNote `json:"notes,omitempty"`
}

// InventoryNote says which part is missing or was cut, and why.
type InventoryNote struct {
	Part    string `json:"part"` // "devices", "partitions", "routes", …
	Message string `json:"message"`
}

// OSRelease is what /etc/os-release says.
type OSRelease struct {
	ID         string `json:"id"`      // "debian"
	Version    string `json:"version"` // "12"
	Like       string `json:"like,omitempty"`
	PrettyName string `json:"pretty_name,omitempty"`
}

// Kernel is what runs.
type Kernel struct {
	Release string `json:"release"`
	Arch    string `json:"arch"`              // as Go names it: amd64, arm64
	Cmdline string `json:"cmdline,omitempty"` // only root=, resume=, console= and ro/rw: others may hold secrets
}

// CPU is the host's processors.
type CPU struct {
	Model string `json:"model,omitempty"`
	Count int    `json:"count"` // logical
}

// Firmware is how the host was started.
type Firmware struct {
	Type       string `json:"type"`                  // "bios" or "uefi"
	SecureBoot *bool  `json:"secure_boot,omitempty"` // nil: not UEFI, or not known
}

// Platform is what the host runs on, as its DMI tables and CPU flags say.
type Platform struct {
	Virtualization string `json:"virtualization,omitempty"` // kvm, vmware, xen, hyperv, …, none; empty: not known
	Cloud          string `json:"cloud,omitempty"`          // aws, gcp, azure, …
	Vendor         string `json:"vendor,omitempty"`
	Product        string `json:"product,omitempty"`
}

// BlockDevice is one device of the block layer that is not a partition.
type BlockDevice struct {
	ID             string          `json:"id"`   // stable: see agent/inventory; equals SessionDisk.ID for a disk that is replicated
	Name           string          `json:"name"` // kernel name: sda, nvme0n1, dm-0
	Path           string          `json:"path"`
	Type           string          `json:"type"` // disk, loop, ram, zram, dm, md, cdrom, floppy
	Size           int64           `json:"size"`
	LogicalSector  int             `json:"logical_sector"`
	PhysicalSector int             `json:"physical_sector"`
	Rotational     bool            `json:"rotational"`
	ReadOnly       bool            `json:"read_only"`
	Removable      bool            `json:"removable"`
	MajorMinor     string          `json:"major_minor"`
	DiskSeq        uint64          `json:"disk_seq,omitempty"` // 0: this kernel has none
	WWN            string          `json:"wwn,omitempty"`
	Serial         string          `json:"serial,omitempty"`
	Vendor         string          `json:"vendor,omitempty"`
	Model          string          `json:"model,omitempty"`
	DMName         string          `json:"dm_name,omitempty"`
	DMUUID         string          `json:"dm_uuid,omitempty"`
	BackingFile    string          `json:"backing_file,omitempty"` // loop
	RAIDLevel      string          `json:"raid_level,omitempty"`   // md
	Holders        []string        `json:"holders,omitempty"`      // kernel names of what is built on this device
	Slaves         []string        `json:"slaves,omitempty"`       // and of what it is built on
	Table          *PartitionTable `json:"table,omitempty"`
	Content        *Content        `json:"content,omitempty"` // of the whole device, when it has no partition table
	Selected       bool            `json:"selected"`          // replicated unless the assignment says otherwise
}

// PartitionTable is what a device's own bytes say, whether or not the kernel has parsed them.
type PartitionTable struct {
	Scheme     string      `json:"scheme"` // gpt or mbr
	ID         string      `json:"id"`     // GPT disk GUID, or MBR signature in hexadecimal
	SectorSize int         `json:"sector_size"`
	Backup     bool        `json:"backup,omitempty"` // the primary GPT is damaged; this is the backup
	Partitions []Partition `json:"partitions"`
}

// Partition is one entry of a partition table.
type Partition struct {
	Number   int      `json:"number"`
	Start    int64    `json:"start"`
	Size     int64    `json:"size"`
	Type     string   `json:"type"`                // GUID, or MBR type in hexadecimal
	TypeName string   `json:"type_name,omitempty"` // "EFI system"
	Name     string   `json:"name,omitempty"`
	UUID     string   `json:"uuid,omitempty"`
	Bootable bool     `json:"bootable,omitempty"`
	Holders  []string `json:"holders,omitempty"`
	Content  *Content `json:"content,omitempty"`
}

// Content is what a device or a partition holds, as its own bytes say.
type Content struct {
	Type  string `json:"type"` // ext4, xfs, btrfs, vfat, ntfs, swap, lvm2, luks, md, …
	UUID  string `json:"uuid,omitempty"`
	Label string `json:"label,omitempty"`
}

// Filesystem is a mounted file system that lies on a block device.
type Filesystem struct {
	Source     string `json:"source"` // /dev/mapper/vg-root
	Device     string `json:"device"` // kernel name if known, else major:minor
	Mountpoint string `json:"mountpoint"`
	Type       string `json:"type"`
	ReadOnly   bool   `json:"read_only,omitempty"`
}

// Swap is an active swap area.
type Swap struct {
	Path string `json:"path"`
	Type string `json:"type"` // partition or file
	Size int64  `json:"size"`
}

// VolumeGroup is an LVM2 volume group, as the metadata area of one of its physical volumes says.
type VolumeGroup struct {
	Name            string   `json:"name"`
	UUID            string   `json:"uuid,omitempty"`
	PhysicalVolumes []string `json:"physical_volumes"` // kernel names (sda, or sda2) on which it was found
	LogicalVolumes  []string `json:"logical_volumes,omitempty"`
}

// Interface is a network interface other than loopback.
type Interface struct {
	Name      string   `json:"name"`
	MAC       string   `json:"mac,omitempty"`
	MTU       int      `json:"mtu"`
	Up        bool     `json:"up"`
	Virtual   bool     `json:"virtual,omitempty"`   // bridge, bond, vlan, tunnel: no device of its own
	Driver    string   `json:"driver,omitempty"`    //
	Addresses []string `json:"addresses,omitempty"` // in CIDR form
}

// Route is one entry of the main routing tables.
type Route struct {
	Destination string `json:"destination"` // CIDR; default is 0.0.0.0/0 or ::/0
	Gateway     string `json:"gateway,omitempty"`
	Interface   string `json:"interface"`
	Metric      int64  `json:"metric,omitempty"`
}
