package disks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Space is a place for mounts that no other process sees. It belongs to one thread: all that is done with it happens on the
// goroutine that Private runs.
type Space struct {
	dir    string
	mounts []string

	// One device for a volume, however often it is mounted: file systems do not expect another one with the same content.
	loops map[place]*os.File
	// Processes that show volumes in pieces to loop devices.
	joined []*volumeFile
}

// place is what a loop device shows.
type place struct {
	disk        int
	start, size int64
}

// Private calls fn with a Space of its own and unmounts everything when fn returns. The mounts live in a mount name space
// of a thread that ends with fn, and the loop devices in nothing but this process and the mounts: when the process is killed,
// the kernel takes both down. Programs that fn starts see the mounts; they should end with the thread (Pdeathsig).
// It needs CAP_SYS_ADMIN.
func Private(ctx context.Context, fn func(*Space) error) error {
	dir, err := os.MkdirTemp("", "openmigrate-mounts-")
	if err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	defer func() { _ = os.Remove(dir) }()
	done := make(chan error)
	go elsewhere(func() { done <- private(ctx, dir, fn) })
	return <-done
}

// elsewhere calls f on a thread that is of no other use afterwards, and ends with the goroutine. It is not the process's first one: /proc/self, and so all that
// asks for the process's mounts, shows what that one sees.
func elsewhere(f func()) {
	runtime.LockOSThread() // for good
	if unix.Gettid() != os.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
	runtime.UnlockOSThread()
}

func private(ctx context.Context, dir string, fn func(*Space) error) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make mount name space: %w (conversion needs root)", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	s := &Space{dir: dir, loops: map[place]*os.File{}}
	defer func() { err = errors.Join(err, s.unmount()) }()
	return fn(s)
}

// Dir is where the volume is that was mounted at "/".
func (s *Space) Dir() string { return s.dir }

// Mount shows a volume at a path below Dir, which must be free of symbolic links and exist.
// Read-only means that nothing is written, not even a journal's transactions: what they hold is not seen then.
func (s *Space) Mount(list []Disk, v Volume, at string, options []string, readOnly bool) error {
	if !v.Mountable() {
		return fmt.Errorf("mount %v: it is %q: %s", v, v.Type, v.Trouble)
	}
	first := v.where()[0]
	where := place{first.Disk, first.Start, v.Size}
	loop := s.loops[where]
	if loop == nil {
		var err error
		if loop, err = s.attach(list, v, readOnly); err != nil {
			return fmt.Errorf("attach loop device to %v: %w", v, err)
		}
		s.loops[where] = loop
	}
	flags, data := uintptr(unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME), slices.Clone(options)
	if readOnly {
		flags |= unix.MS_RDONLY | unix.MS_NOEXEC
	}
	fstype := v.Type
	switch fstype {
	case "ext2", "ext3", "ext4":
		// A superblock may ask for a panic of our kernel.
		fstype, data = "ext4", append(data, "errors=remount-ro")
		switch {
		case !readOnly: // nor begin to write what mkfs left out, which the machine does itself in the end
			data = append(data, "noinit_itable")
		case v.Type != "ext2":
			data = append(data, "noload")
		}
	case "xfs":
		// The same file system may be mounted from another copy.
		data = append(data, "nouuid")
		if readOnly {
			data = append(data, "norecovery")
		}
	case "btrfs":
		if readOnly {
			data = append(data, "rescue=nologreplay")
		}
	}
	target := filepath.Join(s.dir, at)
	if err := unix.Mount(loop.Name(), target, fstype, flags, strings.Join(data, ",")); err != nil {
		return fmt.Errorf("mount %s on %v: %w", fstype, v, err)
	}
	s.mounts = append(s.mounts, target)
	return nil
}

func (s *Space) attach(list []Disk, v Volume, readOnly bool) (*os.File, error) {
	if v.Pieces == nil {
		return attach(list[v.Disk].Path, v.Start, v.Size, readOnly)
	}
	shown, err := openJoined(list, v.Pieces, readOnly)
	if err != nil {
		return nil, err
	}
	s.joined = append(s.joined, shown)
	loop, err := attachFile(shown.File, 0, v.Size, readOnly)
	return loop, errors.Join(err, shown.Close())
}

// MountScratch puts an empty file system in memory, of at most size bytes, at a path below Dir.
func (s *Space) MountScratch(at string, size int64) error {
	target := filepath.Join(s.dir, at)
	if err := unix.Mount("scratch", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=1777,size=%d", size)); err != nil {
		return fmt.Errorf("mount scratch: %w", err)
	}
	s.mounts = append(s.mounts, target)
	return nil
}

// Unmount takes down all mounts. Others may follow, with another mode, too.
func (s *Space) Unmount() error { return s.unmount() }

func (s *Space) unmount() (all error) {
	defer func() {
		for where, loop := range s.loops {
			loop.Close() // it goes with the last that has it open
			delete(s.loops, where)
		}
		for _, shown := range s.joined {
			all = errors.Join(all, shown.wait())
		}
		s.joined = nil
	}()
	for len(s.mounts) > 0 {
		last := s.mounts[len(s.mounts)-1]
		s.mounts = s.mounts[:len(s.mounts)-1]
		if err := s.unmountOne(last); err != nil {
			all = errors.Join(all, fmt.Errorf("unmount: %w", err))
		}
	}
	return all
}

// unmountOne waits a little for programs that were killed and have not gone yet.
func (s *Space) unmountOne(target string) error {
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for range 100 {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		<-pause.C
	}
	return errors.Join(unix.EBUSY, unix.Unmount(target, unix.MNT_DETACH))
}
