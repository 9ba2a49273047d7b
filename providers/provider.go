// Package providers defines what OpenMigrate asks of the place that machines are brought up at: a cloud, a cluster, or QEMU on
// this host. Implementations live below (qemu, memprovider); fault decorates one; providercheck holds the conformance suite that
// all of them pass and that a user can run against his own account. DESIGN.md compares the clouds that the interface was drawn from.
//
// Invariants that every provider keeps, and that launches rely on:
//
//   - One token makes one thing. A create that is repeated with its token, after a lost answer or a crash of either side, returns what
//     the first one made.
//   - What a create made carries its owner from the first moment, so List finds it even if nobody got its id.
//   - A create that is refused (ErrInvalid, ErrNotFound, ErrDenied, ErrQuota) has made nothing.
//   - No call waits for the cloud: creates, starts and stops begin something, and the thing's State says how far it is.
//   - Removing what is gone already succeeds.
//
// What differs between providers is said by Capabilities, as data, and asked before it is used.
//
// Everything here may be called by any number of goroutines at once, but one token only by one of them, unless
// Capabilities.ConcurrentTokens says that the cloud itself settles such a race.
package providers

import (
	"context"
	"errors"
)

// The classes of errors. Each message says what to do next; the class says who can do it.
var (
	// ErrNotFound: there is no such volume, snapshot, instance or network.
	ErrNotFound = errors.New("not found at the provider")
	// ErrDenied: the credentials are wrong or lack a right.
	ErrDenied = errors.New("denied by the provider")
	// ErrQuota: the account or the host has no room left for it.
	ErrQuota = errors.New("over the provider's limit")
	// ErrConflict: the thing is in a state, or in a use, that does not allow it; or the token belongs to another request.
	ErrConflict = errors.New("conflicts with its state at the provider")
	// ErrTryAgain: it may pass when the same call is repeated with the same token (throttling, lost answers, no capacity now).
	ErrTryAgain = errors.New("temporary failure of the provider")
	// ErrInvalid: the request can never succeed as it is; also everything that Capabilities rule out.
	ErrInvalid = errors.New("not possible at the provider")
)

// Provider is one account, project or host. Ids are the provider's own and opaque.
type Provider interface {
	Catalogue
	Volumes
	Snapshots
	Instances
	// List returns all that carries the tag of that system and is not gone, in no order. What was created in the last minutes may be missing.
	List(ctx context.Context, system string) ([]Resource, error)
}

// Catalogue says what there is to choose from.
type Catalogue interface {
	Capabilities(ctx context.Context) (Capabilities, error)
	InstanceTypes(ctx context.Context) ([]InstanceType, error)
	Networks(ctx context.Context) ([]Network, error)
}

// TypeByName is implemented by providers that take more instance types than InstanceTypes lists.
type TypeByName interface {
	// InstanceType returns the type of that id; ErrNotFound or ErrInvalid, with what ids look like, if there can be none.
	InstanceType(id string) (InstanceType, error)
}

// Volumes are disks that exist without a machine.
type Volumes interface {
	// CreateVolume begins to make a volume. ErrConflict if the token was used for another spec or for a volume that was deleted.
	CreateVolume(ctx context.Context, spec VolumeSpec) (Volume, error)
	// Volume returns ErrNotFound for one that is not there, or that was deleted.
	Volume(ctx context.Context, id string) (Volume, error)
	// AttachVolume begins to make an available volume visible to a writer, which Volume's Attachment then describes. writer is the id of the
	// hydrator's instance at the provider where Capabilities.Writers says WriterDevice, and empty where it says WriterFile. The
	// writer that has it already may ask again; ErrConflict if another one or an instance has it.
	AttachVolume(ctx context.Context, id, writer string) error
	// DetachVolume takes the volume from its writer, which has synced and closed it. No error when it has none.
	DetachVolume(ctx context.Context, id string) error
	// DeleteVolume removes a volume that nothing uses, else ErrConflict. No error when it is gone.
	DeleteVolume(ctx context.Context, id string) error
}

// Snapshots are what a volume held at one moment. They never change.
type Snapshots interface {
	// CreateSnapshot begins a snapshot of a volume. Its content is fixed once Snapshot.Taken: until then nobody may write to the volume but
	// an instance that runs on it, and that only where Capabilities.SnapshotInUse says so (ErrConflict elsewhere).
	CreateSnapshot(ctx context.Context, spec SnapshotSpec) (Snapshot, error)
	// Snapshot returns ErrNotFound for one that is not there, or that was deleted.
	Snapshot(ctx context.Context, id string) (Snapshot, error)
	// DeleteSnapshot removes a snapshot, or returns ErrConflict while volumes still share its blocks. No error when it is gone.
	DeleteSnapshot(ctx context.Context, id string) error
}

// Instances are machines.
type Instances interface {
	// CreateInstance makes a machine from volumes or snapshots (Capabilities.InstanceSources) and begins to start it. Its volumes
	// are available and have no writer, else ErrConflict. An unknown network or type is ErrNotFound. The token of an instance that was terminated
	// gives it back as such, or ErrConflict.
	CreateInstance(ctx context.Context, spec InstanceSpec) (Instance, error)
	// Instance returns the last known state. A terminated instance may be reported as such for a while; then it is ErrNotFound.
	Instance(ctx context.Context, id string) (Instance, error)
	// StartInstance begins to start a stopped instance. No error when it runs already; ErrConflict while it stops.
	StartInstance(ctx context.Context, id string) error
	// StopInstance begins to stop an instance: by asking its system, and after the provider's time of grace by cutting the power; with
	// force at once. No error when it is stopped already.
	StopInstance(ctx context.Context, id string, force bool) error
	// TerminateInstance cuts the power and removes the instance with those of its disks that are marked Delete. No error when it is gone.
	TerminateInstance(ctx context.Context, id string) error
	// Console returns the end of what the machine wrote to its first serial port, at most ConsoleLimit bytes, and whatever a guest
	// may have put into it. It may lag by minutes. It outlives a stop, not a termination.
	Console(ctx context.Context, id string) ([]byte, error)
	// Screenshot returns what the screen shows as PNG, at most ScreenshotLimit bytes. ErrConflict when the machine does not run.
	Screenshot(ctx context.Context, id string) ([]byte, error)
}

// Limits on what a machine may send us.
const (
	ConsoleLimit    = 64 << 10 // bytes
	ScreenshotLimit = 16 << 20 // bytes
)

// RoomChecker is implemented by providers that can say beforehand whether there is room. It makes nothing and promises nothing: a create may still be
// refused.
type RoomChecker interface {
	// CheckRoom returns ErrQuota when the volumes, and the instance that is made of them, do not fit now, and the other errors of their creates as far as they
	// can be told. The volumes that the instance names need not be there.
	CheckRoom(ctx context.Context, volumes []VolumeSpec, instance InstanceSpec) error
}

// SnapshotWriter is implemented by providers whose snapshots are written block by block from anywhere, without an instance and without a volume
// (Capabilities.SnapshotBlocks). Blocks that are not put read as the parent's, and as zeros without a parent.
type SnapshotWriter interface {
	// BeginSnapshot opens a snapshot for writing; it stays StateCreating until it is completed.
	BeginSnapshot(ctx context.Context, spec BlockSnapshotSpec) (Snapshot, error)
	// PutBlock writes block number index, exactly Capabilities.SnapshotBlocks.Size bytes. It may be repeated. data is the caller's again on return.
	PutBlock(ctx context.Context, id string, index int64, data []byte) error
	// CompleteSnapshot says that blocks different blocks were put; any other number is ErrConflict. It may be repeated.
	CompleteSnapshot(ctx context.Context, id string, blocks int64) error
}

// ImageRemover is implemented by providers whose List can show images.
type ImageRemover interface {
	// DeleteImage removes an image. No error when it is gone.
	DeleteImage(ctx context.Context, id string) error
}

// LazyVolumes is implemented by providers that start machines on content which is still on its way (Capabilities.Lazy).
type LazyVolumes interface {
	// CreateLazyVolume makes a volume that is written like any other and reads from view what was not written. The view must not change,
	// and must be served for as long as Volume.Lazy is true. spec.From must be empty.
	CreateLazyVolume(ctx context.Context, spec VolumeSpec, view View) (Volume, error)
	// FillVolume begins to copy what is still missing from the view, while an instance runs on the volume. Volume.Lazy becomes false at the end;
	// a fill that was interrupted is asked for again.
	FillVolume(ctx context.Context, id string) error
}
