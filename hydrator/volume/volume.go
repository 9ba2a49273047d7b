// Package volume opens what a disk is restored onto: a raw image file or a block device. It keeps two promises. It never opens a
// target that somebody else is using, and it never says that a range reads as zeros unless the kernel promises that it does.
// What may be overwritten is not decided here, but Inspect says what a target holds.
//
// A Volume's WriteAt and Zero may be called by many goroutines at once for ranges that do not overlap.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/durable"
)

var (
	// ErrInUse: the target is mounted, part of another device, swap, or open for another restore.
	ErrInUse = errors.New("target is in use")
	// ErrWriter, with ErrInUse: it is free again as soon as another restore or conversion has ended.
	ErrWriter = errors.New("another one writes it")
	// ErrTooSmall: the target is smaller than the disk.
	ErrTooSmall = errors.New("target is smaller than the disk")
	// ErrKind: the target is neither a regular file nor a block device.
	ErrKind = errors.New("target is neither a file nor a block device")
	// ErrNotEmpty: the target holds something that is not ours.
	ErrNotEmpty = errors.New("target holds something else")
)

// Identity tells whether a volume is still the one that it was, as far as the operating system can.
type Identity struct {
	Device   bool   `json:"device,omitempty"`
	Dev      uint64 `json:"dev"`                // of the file system that the file is in, or the device's number
	Inode    uint64 `json:"inode,omitempty"`    // file
	DiskSeq  uint64 `json:"disk_seq,omitempty"` // device: unique since boot
	Boot     string `json:"boot,omitempty"`     // device: boot that DiskSeq counts from
	Size     int64  `json:"size"`               // bytes
	Modified int64  `json:"modified,omitempty"` // file: nanoseconds since 1970
}

// SameObject reports whether both are the same file or device, whatever is in it.
func (i Identity) SameObject(o Identity) bool {
	if i.Device != o.Device {
		return false
	}
	if i.Device { // numbers are given anew at each boot
		return i.Size == o.Size && (i.Boot != o.Boot || i.Dev == o.Dev && i.DiskSeq == o.DiskSeq)
	}
	return i.Dev == o.Dev && i.Inode == o.Inode
}

// Unchanged reports whether both are the same object and nothing shows that it was written in between. A device
// shows nothing unless it was attached anew.
func (i Identity) Unchanged(o Identity) bool {
	return i.SameObject(o) && i.Size == o.Size && i.Modified == o.Modified
}

// Volume is an open target.
type Volume struct {
	path   string
	f      *os.File
	device bool
	fixed  bool // the size is somebody else's decision
	fresh  bool
	size   int64 // bytes
	zero   zeroer
	direct direct
}

// Open opens the target for writing, creating a file that does not exist, and makes sure that nobody else uses it.
func Open(path string) (*Volume, error) {
	v := &Volume{path: path}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
		if err == nil {
			err = durable.SyncDir(filepath.Dir(path))
		}
	case err != nil:
	case st.Mode().IsRegular():
		if err = fileInUse(path, st); err == nil {
			v.f, err = os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
		}
	case st.Mode()&fs.ModeDevice != 0 && st.Mode()&fs.ModeCharDevice == 0:
		v.device = true
		v.f, err = openDevice(path, st)
	case st.IsDir():
		err = fmt.Errorf("%w: it is a directory; name a file in it", ErrKind)
	default:
		err = fmt.Errorf("%w: it is a %s", ErrKind, st.Mode().Type())
	}
	if err == nil {
		err = v.claim()
	}
	if err == nil {
		v.direct.open(v.f)
	}
	if err != nil {
		_ = v.Close()
		return nil, fmt.Errorf("open target %s: %w", path, err)
	}
	return v, nil
}

// claim locks the volume against another restore and learns its size.
func (v *Volume) claim() error {
	if err := unix.Flock(int(v.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%w: another restore is writing it: %w", ErrInUse, ErrWriter)
		}
		return fmt.Errorf("lock: %w", err)
	}
	var err error
	if v.device {
		v.size, err = deviceSize(v.f)
		return err
	}
	st, err := v.f.Stat()
	if err != nil {
		return err
	}
	v.size = st.Size()
	v.fresh = v.size == 0 || v.fixed && hole(v.f)
	return nil
}

// Path is what was opened.
func (v *Volume) Path() string { return v.path }

// Device reports whether it is a block device.
func (v *Volume) Device() bool { return v.device }

// Size is in bytes.
func (v *Volume) Size() int64 { return v.size }

// File is the open target, for a process that is to change it. It stays the Volume's.
func (v *Volume) File() *os.File { return v.f }

// Fresh reports whether it is a file without content: every byte that is not written will read as zero.
func (v *Volume) Fresh() bool { return v.fresh }

// Identity describes the volume as it is now.
func (v *Volume) Identity() (Identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(v.f.Fd()), &st); err != nil {
		return Identity{}, fmt.Errorf("identify %s: %w", v.path, err)
	}
	if v.device {
		return Identity{Device: true, Dev: st.Rdev, DiskSeq: diskSeq(v.f), Boot: bootID(), Size: v.size}, nil
	}
	return Identity{Dev: st.Dev, Inode: st.Ino, Size: st.Size, Modified: st.Mtim.Nano()}, nil
}

// SetSize makes a file exactly size bytes long; what is added reads as zeros. A device, or a file of somebody else's, must be at least that large.
func (v *Volume) SetSize(size int64) error {
	if v.device || v.fixed {
		if v.size < size {
			return fmt.Errorf("write to %s: %w: %d of %d bytes; give a larger one", v.path, ErrTooSmall, v.size, size)
		}
		return nil
	}
	if err := v.f.Truncate(size); err != nil {
		return fmt.Errorf("set size of %s to %d: %w", v.path, size, err)
	}
	v.size = size
	return nil
}

// ReadAt reads content.
func (v *Volume) ReadAt(b []byte, off int64) (int, error) { return v.f.ReadAt(b, off) }

// Sync returns when everything that was written before is durable.
func (v *Volume) Sync() error {
	if err := unix.Fdatasync(int(v.f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", v.path, err)
	}
	return nil
}

// StartSync makes the kernel begin to write out what is dirty, so that Sync finds less to do. It promises nothing.
func (v *Volume) StartSync() {
	_ = unix.SyncFileRange(int(v.f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}

// Close lets go of the volume. It does not sync.
func (v *Volume) Close() error {
	if v.f == nil {
		return nil
	}
	return errors.Join(v.direct.close(), v.f.Close())
}
