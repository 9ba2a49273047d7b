package providers

import (
	"net/netip"
	"strconv"
	"time"
)

// Kind is a kind of resource.
type Kind string

// The kinds.
const (
	KindVolume   Kind = "volume"
	KindSnapshot Kind = "snapshot"
	KindInstance Kind = "instance"
	// KindImage is what some clouds must make of a snapshot before an instance, such as an AMI. Nobody asks for one: the provider makes it within
	// CreateInstance and removes it by itself, and List shows what a crash between the two has left.
	KindImage Kind = "image"
)

// State is where a resource is in its life.
//
//	volume, snapshot:  creating → available → deleting          failed from any
//	instance:          creating → running ⇄ stopping, stopped → terminating → terminated
type State string

// The states.
const (
	StateCreating    State = "creating"  // also an instance that is starting
	StateAvailable   State = "available" // a volume, whether something uses it or not; a snapshot
	StateDeleting    State = "deleting"
	StateFailed      State = "failed" // Reason says why; it can only be removed
	StateRunning     State = "running"
	StateStopping    State = "stopping"
	StateStopped     State = "stopped"
	StateTerminating State = "terminating"
	StateTerminated  State = "terminated"
)

// Owner says whose a resource is. It is on the resource from its first moment, as tags or whatever the provider has for that.
type Owner struct {
	System string `json:"system"` // the master's installation: what List and Sweep select by
	// Launch is the launch that it belongs to, or another thing with a life of its own, such as the warm copy of a machine.
	Launch string `json:"launch"`
}

// Resource is one entry of List.
type Resource struct {
	Kind    Kind      `json:"kind"`
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"`
	Owner   Owner     `json:"owner"`
	State   State     `json:"state"`
	Created time.Time `json:"created"`
}

// Volume is a disk.
type Volume struct {
	ID         string            `json:"id"`
	Name       string            `json:"name,omitempty"`
	Owner      Owner             `json:"owner"`
	Tags       map[string]string `json:"tags,omitempty"`
	Size       int64             `json:"size"` // bytes: what was asked for, rounded up to Capabilities.VolumeStep
	Zone       string            `json:"zone,omitempty"`
	State      State             `json:"state"`
	Reason     string            `json:"reason,omitempty"`
	Created    time.Time         `json:"created"`
	Instance   string            `json:"instance,omitempty"` // whose disk it is
	Attachment *Attachment       `json:"attachment,omitempty"`
	Lazy       bool              `json:"lazy,omitempty"` // still needs its View
}

// Attachment says how a writer reaches a volume.
type Attachment struct {
	Writer string     `json:"writer,omitempty"` // as given to AttachVolume
	Kind   WriterKind `json:"kind"`
	// Ready is false while the provider works on it: do not look for the device yet.
	Ready  bool   `json:"ready"`
	Path   string `json:"path,omitempty"`   // WriterFile: a raw file on the host of the provider
	Serial string `json:"serial,omitempty"` // WriterDevice: the serial number by which the writer finds the disk among its own
}

// Snapshot is what a volume held.
type Snapshot struct {
	ID      string            `json:"id"`
	Name    string            `json:"name,omitempty"`
	Owner   Owner             `json:"owner"`
	Tags    map[string]string `json:"tags,omitempty"`
	Volume  string            `json:"volume,omitempty"` // of which it is; it may be gone
	Size    int64             `json:"size"`             // bytes
	State   State             `json:"state"`
	Reason  string            `json:"reason,omitempty"`
	Taken   bool              `json:"taken"` // the content is fixed, and the volume may be written again
	Created time.Time         `json:"created"`
}

// Instance is a machine.
type Instance struct {
	ID       string            `json:"id"`
	Name     string            `json:"name,omitempty"`
	Owner    Owner             `json:"owner"`
	Tags     map[string]string `json:"tags,omitempty"`
	Type     string            `json:"type"`
	Firmware Firmware          `json:"firmware"`
	Bus      Bus               `json:"bus"`
	State    State             `json:"state"`
	Reason   string            `json:"reason,omitempty"` // why it failed, or stopped by itself
	Created  time.Time         `json:"created"`
	Disks    []InstanceDisk    `json:"disks"` // in the order of the spec
	NICs     []InstanceNIC     `json:"nics,omitempty"`
}

// InstanceDisk is one disk of an instance.
type InstanceDisk struct {
	Volume string `json:"volume"`
	Delete bool   `json:"delete"` // with the instance
	Boot   bool   `json:"boot,omitempty"`
}

// InstanceNIC is one network card of an instance.
type InstanceNIC struct {
	Network   string       `json:"network"`
	MAC       string       `json:"mac"`
	Addresses []netip.Addr `json:"addresses,omitempty"` // as far as the provider knows them
	Forwards  []Forward    `json:"forwards,omitempty"`
}

// Forward leads from an address of the provider's host to a port of the instance.
type Forward struct {
	Port    uint16         `json:"port"` // TCP, in the instance
	Address netip.AddrPort `json:"address"`
}

// Endpoint is where a TCP port of the instance is reached from the provider's host: through a forward, else at its first address.
// False when there is neither (yet).
func (i Instance) Endpoint(port uint16) (string, bool) {
	for _, n := range i.NICs {
		for _, f := range n.Forwards {
			if f.Port == port {
				return f.Address.String(), true
			}
		}
	}
	for _, n := range i.NICs {
		if len(n.Forwards) == 0 && len(n.Addresses) > 0 {
			return netip.AddrPortFrom(n.Addresses[0], port).String(), true
		}
	}
	return "", false
}

// View is content that is served from elsewhere, for LazyVolumes. Exactly one of File and Socket is set.
type View struct {
	File   string `json:"file,omitempty"`   // a raw file that can be read, for example through FUSE
	Socket string `json:"socket,omitempty"` // an NBD server's unix socket
	Export string `json:"export,omitempty"` // of the NBD server
}

// String names the view for messages.
func (v View) String() string {
	if v.Socket != "" {
		return "NBD export " + strconv.Quote(v.Export) + " at " + v.Socket
	}
	return "file " + v.File
}
