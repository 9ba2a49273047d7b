package quiesce

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func openAll(mounts []Mount) ([]*os.File, error) {
	files := make([]*os.File, 0, len(mounts))
	for _, m := range mounts {
		fd, err := unix.Open(m.Point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("open %s: %w", m.Point, err)
		}
		files = append(files, os.NewFile(uintptr(fd), m.Point))
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // opened to read only
	}
}

// Sync writes back what is dirty in the file system that is mounted at point. That it cannot is no error: a freeze does so, too.
func Sync(point string) {
	if files, err := openAll([]Mount{{Point: point}}); err == nil {
		_ = unix.Syncfs(int(files[0].Fd()))
		closeAll(files)
	}
}

// syncAll writes back what is dirty, so that the freeze itself has little to do.
func syncAll(ctx context.Context, mounts []Mount, files []*os.File) error {
	for i, f := range files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("sync %s: %w", mounts[i].Point, err)
		}
		if err := unix.Syncfs(int(f.Fd())); err != nil {
			return fmt.Errorf("sync %s: %w", mounts[i].Point, err)
		}
	}
	return nil
}

// A file system that takes quickSync to write back what was written since it did so last has next to nothing to do when it is frozen.
const (
	quickSync = 10 * time.Millisecond
	maxSyncs  = 3
)

// settle writes back what is dirty until that is little: each time takes as long as there was written during the time before.
func settle(ctx context.Context, mounts []Mount, files []*os.File) error {
	for range maxSyncs {
		began := time.Now()
		if err := syncAll(ctx, mounts, files); err != nil || time.Since(began) < quickSync {
			return err
		}
	}
	return nil
}

func freeze(f *os.File) error {
	err := unix.IoctlSetInt(int(f.Fd()), fiFreeze, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: thaw it with fsfreeze -u, or wait for who froze it", ErrFrozen)
	}
	return err
}

// thaw reports ErrThawed if the file system was not frozen any more.
func thaw(f *os.File) error {
	err := unix.IoctlSetInt(int(f.Fd()), fiThaw, 0)
	if errors.Is(err, unix.EINVAL) {
		return ErrThawed
	}
	return err
}

// maxLock leaves out what no page fault from disk can come from: the huge anonymous reservations of a runtime.
const maxLock = 64 << 20

// lockMemory brings what this process maps of files in, and keeps that and what it has of memory there: a page of the program that had to be
// read while its file system is frozen could stop the only process that can thaw it. Memory that was never touched needs no disk when it is,
// so it is not filled. mlockall would fill it, and reservations of terabytes under the race detector.
func lockMemory() error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 || !strings.HasPrefix(fields[1], "r") || strings.HasSuffix(s.Text(), "[vvar]") {
			continue
		}
		lo, hi, _ := strings.Cut(fields[0], "-")
		from, err1 := strconv.ParseUint(lo, 16, 64)
		to, err2 := strconv.ParseUint(hi, 16, 64)
		if err1 != nil || err2 != nil || to-from > maxLock {
			continue
		}
		file := len(fields) > 5 && strings.HasPrefix(fields[5], "/")
		flags := uintptr(unix.MLOCK_ONFAULT)
		if file {
			flags = 0
		}
		_, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(from), uintptr(to-from), flags)
		if errno != 0 && file {
			return fmt.Errorf("lock memory of %s: %w", fields[5], errno)
		}
	}
	return nil
}
