// Package fuse shows the disks of a view as read-only files: disk0.img, disk1.img and so on. The kernel keeps the pages that it has read,
// since the content never changes; a chunk that cannot be had is EIO, and the reason is in the log.
//
// A Mount is for people, in a folder. A Private one is for another process of ours, and lies nowhere; its disks may be writable.
// Both serve from goroutines of their own until they are unmounted or closed.
package fuse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// Disk is what a file shows.
type Disk interface {
	Number() int
	Size() int64
	// ReadContext is ReadAt with an end.
	ReadContext(ctx context.Context, p []byte, off int64) (int, error)
	// Extent tells how many bytes from off on are zeros, or are not; at most limit.
	Extent(ctx context.Context, off, limit int64) (n int64, zero bool, err error)
}

// Options change a Mount. nil is the zero value.
type Options struct {
	AllowOther bool         // let users other than the one who mounts read, root included
	Name       string       // what 'mount' shows as the source; NewPrivate begins the names of files with it
	Time       time.Time    // of the files
	ReadAhead  int64        // bytes that the kernel reads ahead; 0: 1 MiB. NewPrivate only
	Log        *slog.Logger // nil: slog.Default
}

// Name is the file of a disk.
func Name(number int) string { return fmt.Sprintf("disk%d.img", number) }

// Mount is a mounted view.
type Mount struct {
	dir    string
	server *gofuse.Server
}

// maxRead is one request of the kernel's, in bytes.
const maxRead = 1 << 20

// New mounts disks on dir, which must exist. Nothing else may be in it, so that nothing is hidden.
func New(dir string, disks []Disk, o *Options) (*Mount, error) {
	if o == nil {
		o = &Options{}
	}
	logger := o.Log
	if logger == nil {
		logger = slog.Default()
	}
	if list, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("mount on %s: %w", dir, err)
	} else if len(list) > 0 {
		return nil, fmt.Errorf("mount on %s: the folder is not empty", dir)
	}
	forever := 24 * time.Hour
	root := &folder{disks: disks, time: o.Time, log: logger}
	server, err := fs.Mount(dir, root, &fs.Options{
		MountOptions: gofuse.MountOptions{
			AllowOther: o.AllowOther, FsName: o.Name, Name: "openmigrate", Options: []string{"ro", "nodev", "nosuid", "noexec", "default_permissions"},
			MaxWrite: maxRead, MaxReadAhead: maxRead, DirectMount: os.Geteuid() == 0, DisableXAttrs: true,
			Logger: log.New(io.Discard, "", 0),
		},
		EntryTimeout: &forever, AttrTimeout: &forever, NegativeTimeout: &forever,
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()),
	})
	if err != nil {
		return nil, fmt.Errorf("mount on %s (is there /dev/fuse, and without root fusermount3?): %w", dir, err)
	}
	return &Mount{dir: dir, server: server}, nil
}

// Wait returns when the mount is gone, whoever unmounted it.
func (m *Mount) Wait() { m.server.Wait() }

// Unmount fails while a file is open, a loop device uses one, or a process stands in the folder.
func (m *Mount) Unmount() error {
	if err := m.server.Unmount(); err != nil {
		return fmt.Errorf("unmount %s: %w", m.dir, err)
	}
	return nil
}

// Detach takes the mount away from who still uses it. For them reads go on until the view is closed.
func (m *Mount) Detach() error {
	if err := syscall.Unmount(m.dir, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("detach %s: %w", m.dir, err)
	}
	return nil
}

// folder is the root.
type folder struct {
	fs.Inode
	disks  []Disk
	prefix string
	time   time.Time
	log    *slog.Logger
}

// OnAdd makes the files.
func (f *folder) OnAdd(ctx context.Context) {
	for _, d := range f.disks {
		child := f.NewPersistentInode(ctx, &file{disk: d, time: f.time, log: f.log}, fs.StableAttr{Mode: syscall.S_IFREG, Ino: uint64(d.Number()) + 2})
		f.AddChild(f.prefix+Name(d.Number()), child, false)
	}
}

// Getattr implements fs.NodeGetattrer.
func (f *folder) Getattr(_ context.Context, _ fs.FileHandle, out *gofuse.AttrOut) syscall.Errno {
	out.Mode = 0o555
	out.SetTimes(nil, &f.time, &f.time)
	return 0
}

// file is one disk.
type file struct {
	fs.Inode
	disk Disk
	time time.Time
	log  *slog.Logger
}

// Getattr implements fs.NodeGetattrer.
func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *gofuse.AttrOut) syscall.Errno {
	out.Mode = 0o444
	if _, ok := f.disk.(Writer); ok {
		out.Mode = 0o600
	}
	out.Size = uint64(f.disk.Size())
	out.Blocks = (out.Size + 511) / 512
	out.Blksize = 256 << 10
	out.SetTimes(nil, &f.time, &f.time)
	return 0
}

// Open refuses to write to a disk that is no Writer.
func (f *file) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if _, ok := f.disk.(Writer); !ok && flags&(syscall.O_WRONLY|syscall.O_RDWR|syscall.O_TRUNC) != 0 {
		return nil, 0, syscall.EROFS
	}
	return nil, gofuse.FOPEN_KEEP_CACHE, 0
}

// Read implements fs.NodeReader.
func (f *file) Read(ctx context.Context, _ fs.FileHandle, dest []byte, off int64) (gofuse.ReadResult, syscall.Errno) {
	n, err := f.disk.ReadContext(ctx, dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, f.errno(err)
	}
	return gofuse.ReadResultData(dest[:n]), 0
}

// Lseek finds holes and data, so that programs that copy can pass over what was never written.
func (f *file) Lseek(ctx context.Context, _ fs.FileHandle, off uint64, whence uint32) (uint64, syscall.Errno) {
	const seekData, seekHole = 3, 4
	size := f.disk.Size()
	if off >= uint64(size) || whence != seekData && whence != seekHole {
		return 0, syscall.ENXIO
	}
	at := int64(off)
	for at < size {
		n, zero, err := f.disk.Extent(ctx, at, size-at)
		if err != nil {
			return 0, f.errno(err)
		}
		if zero == (whence == seekHole) {
			return uint64(at), 0
		}
		at += n
	}
	if whence == seekHole {
		return uint64(size), 0
	}
	return 0, syscall.ENXIO
}

// Write implements fs.NodeWriter.
func (f *file) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	w, ok := f.disk.(Writer)
	if !ok {
		return 0, syscall.EROFS
	}
	n, err := w.WriteAt(data, off)
	if err != nil {
		return uint32(n), f.errno(err)
	}
	return uint32(n), 0
}

// Fsync implements fs.NodeFsyncer.
func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if w, ok := f.disk.(Writer); ok {
		if err := w.Sync(); err != nil {
			return f.errno(err)
		}
	}
	return 0
}

func (f *file) errno(err error) syscall.Errno {
	switch {
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	case errors.Is(err, syscall.ENOSPC):
		return syscall.ENOSPC
	}
	f.log.Error("I/O failed: the program that reads or writes gets an I/O error", "file", Name(f.disk.Number()), "err", err)
	return syscall.EIO
}
