package freespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/partition"
)

const (
	maxVolumes = 1024
	maxDepth   = 8 // mappings over mappings
)

// finder builds the volumes of one disk from sysfs.
type finder struct {
	vols  []*volume
	notes []Note
}

// discover lists the volumes of a disk, the disk itself first, and notes what lies on it that cannot be followed.
func discover(disk Disk) ([]*volume, []Note, error) {
	root, err := openRoot(disk)
	if err != nil {
		return nil, nil, err
	}
	dir, err := filepath.EvalSymlinks("/sys/dev/block/" + root.number())
	if err != nil {
		return nil, nil, err
	}
	root.name = filepath.Base(dir)
	f := &finder{vols: []*volume{root}}
	if err := f.partitions(root, dir); err != nil {
		return nil, nil, err
	}
	for depth, next := 0, 0; depth < maxDepth && next < len(f.vols); depth++ {
		level := f.vols[next:]
		next = len(f.vols)
		if err := f.mappings(level); err != nil {
			return nil, nil, err
		}
	}
	if len(f.vols) == 1 && !root.covered {
		if err := noteHiddenTable(root); err != nil {
			return nil, nil, err
		}
	}
	refuseOverlaps(f.vols)
	return f.vols, f.notes, nil
}

func openRoot(disk Disk) (*volume, error) {
	f, err := os.Open(disk.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, errors.New("it is no block device")
	}
	var bytes uint64
	if err := ioctl(f, unix.BLKGETSIZE64, unsafe.Pointer(&bytes)); err != nil {
		return nil, fmt.Errorf("ask for its size: %w", err)
	}
	size := int64(bytes)
	if disk.Size > 0 {
		size = min(size, disk.Size)
	}
	return &volume{
		path: disk.Path, major: unix.Major(st.Rdev), minor: unix.Minor(st.Rdev), size: size,
		segs: []segment{{0, 0, size}},
	}, nil
}

// partitions adds those that the kernel knows. A partition that it does not know cannot be mounted either.
func (f *finder) partitions(root *volume, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(sub, "partition")); err != nil || !e.IsDir() {
			continue
		}
		start, err1 := readNumber(filepath.Join(sub, "start"))
		v, err2 := newVolume(sub)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if len(f.vols) >= maxVolumes {
			return fmt.Errorf("there are more than %d volumes on it", maxVolumes)
		}
		v.segs = root.part(0, start*sysfsSector, v.size)
		v.below = []*volume{root}
		root.covered = true
		f.vols = append(f.vols, v)
	}
	return nil
}

// mappings follows what holds the volumes of one level.
func (f *finder) mappings(level []*volume) error {
	for _, v := range level {
		dir := filepath.Join("/sys/dev/block", v.number(), "holders")
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			v.covered = true
			if slices.ContainsFunc(f.vols, func(o *volume) bool { return o.name == e.Name() }) {
				continue // a mapping with parts on several volumes is found from each
			}
			m, err := newVolume(filepath.Join("/sys/class/block", e.Name()))
			if err != nil {
				return err
			}
			if len(f.vols) >= maxVolumes {
				return fmt.Errorf("there are more than %d volumes on it", maxVolumes)
			}
			if what, err := m.follow(f.vols); err != nil {
				f.notes = append(f.notes, Note{Device: m.name, What: what, Why: "not looked at: " + err.Error()})
				continue
			}
			f.vols = append(f.vols, m)
		}
	}
	return nil
}

// newVolume reads a device's folder in sysfs. It has no segments yet.
func newVolume(dir string) (*volume, error) {
	sectors, err := readNumber(filepath.Join(dir, "size"))
	if err != nil {
		return nil, err
	}
	number, err := readText(filepath.Join(dir, "dev"))
	if err != nil {
		return nil, err
	}
	name := filepath.Base(dir)
	v := &volume{name: name, path: "/dev/" + strings.ReplaceAll(name, "!", "/"), size: sectors * sysfsSector}
	if _, err := fmt.Sscanf(number, "%d:%d", &v.major, &v.minor); err != nil {
		return nil, fmt.Errorf("read device number %q of %s: %w", number, name, err)
	}
	return v, nil
}

// noteHiddenTable bars a disk whose partition table the kernel has not read: nothing that is on it can be told apart.
func noteHiddenTable(v *volume) error {
	f, err := os.Open(v.path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = partition.Read(f, v.size, 0)
	switch {
	case err == nil:
		v.why = "it has a partition table that the kernel has not read"
	case !errors.Is(err, partition.ErrNone):
		return err
	}
	return nil
}

func readText(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// readNumber reads a count of sectors, which fits when multiplied with their size.
func readNumber(path string) (int64, error) {
	s, err := readText(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 1<<53 {
		return 0, fmt.Errorf("read %s: %q is no number of sectors", path, s)
	}
	return n, nil
}

func ioctl(f *os.File, req uintptr, arg unsafe.Pointer) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	err = c.Control(func(fd uintptr) {
		for {
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, req, uintptr(arg))
			if errno != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}
