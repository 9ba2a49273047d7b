// Package loop makes disks of files for benchmarks: loop devices with ext4 on them. It needs root. Linux only.
//
// A device goes when its Device is closed and nothing is mounted from it, also when the process dies. One goroutine uses a Device.
package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/bench/measure"
)

// Device is a loop device.
type Device struct {
	Path string
	Size int64 // bytes

	f     *os.File
	mount string // "" when not mounted
}

// tries is how often a device that somebody else was quicker to take is replaced by the next.
const tries = 20

// Attach makes a sparse file of size bytes, unless it is there, a disk.
func Attach(file string, size int64) (*Device, error) {
	back, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("attach loop device: %w", err)
	}
	defer back.Close() // the device holds it
	if err := back.Truncate(size); err != nil {
		return nil, fmt.Errorf("attach loop device: %w", err)
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("attach loop device (root and the loop driver are needed): %w", err)
	}
	defer control.Close()
	for range tries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find free loop device: %w", err)
		}
		path := fmt.Sprintf("/dev/loop%d", n)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("attach loop device: %w", err)
		}
		c := unix.LoopConfig{Fd: uint32(back.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(f.Fd()), &c); err == nil {
			return &Device{Path: path, Size: size, f: f}, nil
		}
		f.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("attach %s to %s: %w", file, path, err)
		}
	}
	return nil, fmt.Errorf("attach loop device: others took %d free ones first", tries)
}

// Ext4 makes a file system on the device, with few inodes, all of them ready, so that nothing is written to it later but what its users
// write, and mounts it on dir, which is made.
func (d *Device) Ext4(ctx context.Context, dir string) error {
	mkfs, err := measure.Tool(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-T", "largefile4", "-J", "size="+journal(d.Size),
		"-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", d.Path)
	if err != nil {
		return err
	}
	if _, _, err := measure.Command(mkfs); err != nil {
		return fmt.Errorf("make file system: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("mount %s: %w", d.Path, err)
	}
	if err := unix.Mount(d.Path, dir, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", d.Path, dir, err)
	}
	d.mount = dir
	return nil
}

// journal is its size in MiB: the same on all disks but small ones.
func journal(disk int64) string {
	if disk < 1<<30 {
		return "4"
	}
	return "64"
}

// unmountFor is how long a file system may be busy after its last user has ended.
const unmountFor = 10 * time.Second

// Close unmounts and detaches the device. Its file stays.
func (d *Device) Close() error {
	var err error
	if d.mount != "" {
		for end := time.Now().Add(unmountFor); ; time.Sleep(50 * time.Millisecond) {
			if err = unix.Unmount(d.mount, 0); err == nil || time.Now().After(end) {
				break
			}
		}
		if err != nil {
			err = fmt.Errorf("unmount %s: %w", d.mount, err)
		}
		d.mount = ""
	}
	return errors.Join(err, d.f.Close())
}
