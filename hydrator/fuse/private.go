package fuse

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Writer is a Disk that can be written, where it is shown by NewPrivate.
type Writer interface {
	Disk
	WriteAt(p []byte, off int64) (int, error)
	Sync() error
}

// Private is a mount in no folder: nobody sees it but who is given its File, and the kernel takes it down when nobody has that any more,
// however they ended.
//
// The process that serves it must not use it. If it were killed while it waits for itself, it would wait for ever, and hold what it has.
type Private struct {
	root   *os.File
	prefix string
	server *gofuse.Server
}

// closeTime is how long Close waits for who still uses the mount.
const closeTime = time.Minute

// NewPrivate shows disks without mounting them anywhere. Those that are Writers can be written. It needs root and Linux 5.2.
func NewPrivate(disks []Disk, o *Options) (*Private, error) {
	if o == nil {
		o = &Options{}
	}
	logger := o.Log
	if logger == nil {
		logger = slog.Default()
	}
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse (is the kernel module fuse loaded?): %w", err)
	}
	root, err := makeMount(device)
	if err != nil {
		_ = unix.Close(device)
		return nil, err
	}
	forever := 24 * time.Hour
	prefix := ""
	if o.Name != "" {
		prefix = o.Name + "-"
	}
	raw := fs.NewNodeFS(&folder{disks: disks, prefix: prefix, time: o.Time, log: logger}, &fs.Options{
		EntryTimeout: &forever, AttrTimeout: &forever, NegativeTimeout: &forever,
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()),
	})
	// It closes device when the mount is gone, and if it fails.
	server, err := gofuse.NewServer(raw, "/dev/fd/"+strconv.Itoa(device), &gofuse.MountOptions{
		MaxWrite: maxRead, MaxReadAhead: int(readAhead(o)), DisableXAttrs: true, Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve a private mount: %w", err), root.Close())
	}
	p := &Private{root: root, prefix: prefix, server: server}
	go server.Serve() // Close waits for it
	if err := server.WaitMount(); err != nil {
		return nil, errors.Join(fmt.Errorf("serve a private mount: %w", err), p.Close())
	}
	return p, nil
}

func readAhead(o *Options) int64 {
	if o.ReadAhead > 0 {
		return o.ReadAhead
	}
	return maxRead
}

// makeMount has the kernel make a mount that device answers for, and returns its root, an O_PATH descriptor.
func makeMount(device int) (*os.File, error) {
	config, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a private mount (Linux 5.2 and root are needed): %w", err)
	}
	defer unix.Close(config) //nolint:errcheck // it was only read
	for _, kv := range [][2]string{
		{"source", "openmigrate"}, {"fd", strconv.Itoa(device)}, {"rootmode", "40000"}, {"user_id", strconv.Itoa(os.Geteuid())},
		{"group_id", strconv.Itoa(os.Getegid())}, {"max_read", strconv.Itoa(maxRead)},
	} {
		if err := unix.FsconfigSetString(config, kv[0], kv[1]); err != nil {
			return nil, fmt.Errorf("make a private mount: %s: %w", kv[0], err)
		}
	}
	if err := unix.FsconfigSetFlag(config, "default_permissions"); err != nil {
		return nil, fmt.Errorf("make a private mount: %w", err)
	}
	if err := unix.FsconfigCreate(config); err != nil {
		return nil, fmt.Errorf("make a private mount: %w", err)
	}
	mount, err := unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a private mount: %w", err)
	}
	return os.NewFile(uintptr(mount), "private mount"), nil
}

// File is the folder with the disks, to be handed to another process, which finds disks by their Name below it.
func (p *Private) File() *os.File { return p.root }

// Name is the file of a disk. With Options.Name it begins with that, and so do loop devices on it tell whose they are.
func (p *Private) Name(number int) string { return p.prefix + Name(number) }

// ErrBusy: somebody still uses a private mount.
var ErrBusy = errors.New("private mount is still in use")

// Release lets go of the mount and waits, for as long as it takes, until whoever was given it has, too.
func (p *Private) Release() error {
	err := p.root.Close()
	p.server.Wait()
	return err
}

// Close is Release with an end: ErrBusy after a minute.
func (p *Private) Close() error {
	err := p.root.Close()
	done := make(chan struct{})
	go func() { p.server.Wait(); close(done) }()
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-done:
		return err
	case <-timer.C:
		return errors.Join(err, ErrBusy)
	}
}
