package sourcetest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// LoopWanted reports whether tests of loop devices are to be registered: as root, and in CI, where they fail without it.
func LoopWanted() bool { return os.Geteuid() == 0 || os.Getenv("CI") == "true" }

// LoopOptions change a loop device. The zero value is right for most tests.
type LoopOptions struct {
	SectorSize int // bytes; 0: 512
	ReadOnly   bool
}

// LoopDevice is a block device over a file.
type LoopDevice struct {
	Path string // /dev/loopN
	File string // the backing file

	f *os.File
}

// NewLoopDevice attaches file, and detaches it when the test ends.
func NewLoopDevice(t testing.TB, file string, opts LoopOptions) *LoopDevice {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("tests of loop devices need root: in CI they must run, elsewhere register them only if LoopWanted")
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("open loop control: %v", err)
	}
	defer func() { _ = control.Close() }()
	// Another process may take the free number first: EBUSY, try the next.
	for range 64 {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.LOOP_CTL_GET_FREE, 0)
		if errno != 0 {
			t.Fatalf("get a free loop device: %v", errno)
		}
		d := &LoopDevice{Path: fmt.Sprintf("/dev/loop%d", n), File: file}
		if d.f, err = os.OpenFile(d.Path, os.O_RDWR, 0); err != nil {
			t.Fatalf("open loop device: %v", err)
		}
		if err = d.attach(file, opts); err == nil {
			t.Cleanup(func() {
				_ = d.Detach()
				_ = d.f.Close()
			})
			return d
		}
		_ = d.f.Close()
		if !errors.Is(err, unix.EBUSY) {
			t.Fatalf("attach %s to %s: %v", file, d.Path, err)
		}
	}
	t.Fatal("no loop device is free")
	return nil
}

func (d *LoopDevice) attach(file string, opts LoopOptions) error {
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = backing.Close() }() // the kernel holds its own reference
	cfg := unix.LoopConfig{Fd: uint32(backing.Fd()), Size: uint32(opts.SectorSize)}
	copy(cfg.Info.File_name[:], file)
	if opts.ReadOnly {
		cfg.Info.Flags = unix.LO_FLAGS_READ_ONLY
	}
	return unix.IoctlLoopConfigure(int(d.f.Fd()), &cfg)
}

// Reattach puts another file under the device. No one else may hold it open.
func (d *LoopDevice) Reattach(file string) error {
	if err := d.Detach(); err != nil {
		return err
	}
	// The kernel lets go of the old file when the device is closed.
	if err := d.f.Close(); err != nil {
		return err
	}
	var err error
	if d.f, err = os.OpenFile(d.Path, os.O_RDWR, 0); err != nil {
		return err
	}
	d.File = file
	return d.attach(file, LoopOptions{})
}

// Detach empties the device. The kernel does so when the last user closes it, which may be later.
func (d *LoopDevice) Detach() error {
	return d.ioctl(unix.LOOP_CLR_FD)
}

// Resized tells the device that its file has another size now.
func (d *LoopDevice) Resized() error {
	return d.ioctl(unix.LOOP_SET_CAPACITY)
}

func (d *LoopDevice) ioctl(req uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), req, 0); errno != 0 {
		return errno
	}
	return nil
}
