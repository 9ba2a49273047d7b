package volume

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openDevice opens a block device for itself alone.
func openDevice(path string, st fs.FileInfo) (*os.File, error) {
	rdev := st.Sys().(*syscall.Stat_t).Rdev
	if err := deviceInUse(rdev); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%w: the kernel says that it is busy; unmount it or stop what uses it", ErrInUse)
	}
	return f, err
}

// deviceInUse looks at the device and its partitions: mounted, swap, or held by another device.
func deviceInUse(rdev uint64) error {
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(rdev), unix.Minor(rdev))
	numbers := map[string]string{fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev)): sys}
	parts, _ := filepath.Glob(sys + "/*/partition")
	for _, p := range parts {
		if n, err := os.ReadFile(filepath.Dir(p) + "/dev"); err == nil {
			numbers[strings.TrimSpace(string(n))] = filepath.Dir(p)
		}
	}
	for _, dir := range numbers {
		if holders, _ := os.ReadDir(dir + "/holders"); len(holders) > 0 {
			return fmt.Errorf("%w: %s is built on it; stop that first", ErrInUse, holders[0].Name())
		}
	}
	if err := mounted(func(number, _ string) bool { return numbers[number] != "" }); err != nil {
		return err
	}
	return swap(func(path string) bool {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			return false
		}
		return st.Mode&unix.S_IFMT == unix.S_IFBLK && numbers[fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))] != ""
	})
}

// fileInUse looks for loop devices and swap on a file.
func fileInUse(path string, st fs.FileInfo) error {
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, l := range loops {
		backing, err := os.ReadFile(l)
		if err != nil {
			continue // detached in between
		}
		other, err := os.Stat(string(bytes.TrimRight(backing, "\n")))
		if err != nil || !os.SameFile(st, other) {
			continue
		}
		dev := filepath.Base(filepath.Dir(filepath.Dir(l)))
		number, _ := os.ReadFile(filepath.Join("/sys/block", dev, "dev"))
		if err := mounted(func(n, _ string) bool { return n == string(bytes.TrimSpace(number)) }); err != nil {
			return err
		}
		if auto, err := os.ReadFile(filepath.Join(filepath.Dir(l), "autoclear")); err == nil && string(bytes.TrimSpace(auto)) == "1" {
			return fmt.Errorf("%w: it is attached as /dev/%s until whoever uses that ends: %w", ErrInUse, dev, ErrWriter)
		}
		return fmt.Errorf("%w: it is attached as /dev/%s; detach it first (losetup -d /dev/%s)", ErrInUse, dev, dev)
	}
	return swap(func(p string) bool {
		other, err := os.Stat(p)
		return err == nil && os.SameFile(st, other)
	})
}

// mounted returns ErrInUse for the first mount whose device number or source matches.
func mounted(match func(number, source string) bool) error {
	return lines("/proc/self/mountinfo", func(fields []string) error {
		// id parent major:minor root mountpoint options... - type source super
		if len(fields) < 10 || !match(fields[2], fields[len(fields)-2]) {
			return nil
		}
		return fmt.Errorf("%w: it is mounted at %s; unmount it first", ErrInUse, fields[4])
	})
}

func swap(match func(path string) bool) error {
	return lines("/proc/swaps", func(fields []string) error {
		if len(fields) > 0 && strings.HasPrefix(fields[0], "/") && match(fields[0]) {
			return fmt.Errorf("%w: it is swap space; turn it off first (swapoff %s)", ErrInUse, fields[0])
		}
		return nil
	})
}

func lines(name string, fn func(fields []string) error) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("find out who uses the target: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if err := fn(strings.Fields(s.Text())); err != nil {
			return err
		}
	}
	return s.Err()
}

func deviceSize(f *os.File) (int64, error) {
	var n uint64
	err := ioctl(f, unix.BLKGETSIZE64, unsafe.Pointer(&n))
	return int64(n), err
}

// diskSeq is 0 where the kernel has no sequence numbers (before 5.15).
func diskSeq(f *os.File) uint64 {
	var n uint64
	if ioctl(f, unix.BLKGETDISKSEQ, unsafe.Pointer(&n)) != nil {
		return 0
	}
	return n
}

func zeroOut(f *os.File, off, n int64) error {
	r := [2]uint64{uint64(off), uint64(n)}
	return ioctl(f, unix.BLKZEROOUT, unsafe.Pointer(&r))
}

func ioctl(f *os.File, req uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), req, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// bootID names this boot.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}
