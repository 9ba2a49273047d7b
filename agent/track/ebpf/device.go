package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// node is what sysfs says of a block device.
type node struct {
	name     string
	dev      uint32 // as the programs know it
	seq      uint64
	size     int64
	bioBased bool
}

// find looks at the block device at path. An error says why it cannot be tracked.
func find(path string) (node, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return node{}, fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return node{}, errors.New("it is a file, and writes to files are not tracked")
	}
	major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return node{}, fmt.Errorf("find %s in sysfs: %w", path, err)
	}
	n := node{name: filepath.Base(dir), dev: major<<20 | minor}
	if exists(filepath.Join(dir, "partition")) {
		return n, errors.New("it is a partition, and whole disks are tracked")
	}
	sectors, err := number(filepath.Join(dir, "size"))
	if err != nil {
		return n, fmt.Errorf("read the size of %s: %w", n.name, err)
	}
	n.size = int64(sectors) * 512
	if n.seq, err = number(filepath.Join(dir, "diskseq")); err != nil {
		return n, fmt.Errorf("kernel %s does not tell one disk from the next with the same name (diskseq, since Linux 5.15)", kernelRelease())
	}
	if zoned, err := os.ReadFile(filepath.Join(dir, "queue", "zoned")); err == nil && strings.TrimSpace(string(zoned)) != "none" {
		return n, errors.New("it is a zoned disk, whose resets name no range")
	}
	if dax, err := number(filepath.Join(dir, "queue", "dax")); err == nil && dax != 0 {
		return n, errors.New("it can be written as memory (DAX), which makes no block event")
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "mq")); err == nil && len(entries) > 0 {
		if strings.HasPrefix(n.name, "dm-") {
			return n, errors.New("a device-mapper table can be replaced without a block event")
		}
		return n, nil
	}
	n.bioBased = true
	return n, n.provenBios()
}

// provenBios says why a disk without requests cannot be tracked. Those that are not named have never been tested.
func (n node) provenBios() error {
	switch {
	case strings.HasPrefix(n.name, "zram"):
		return nil
	case strings.HasPrefix(n.name, "dm-"):
		return errors.New("a device-mapper table can be replaced without a block event")
	case strings.HasPrefix(n.name, "md"):
		return errors.New("tracking is not proven for md arrays")
	case strings.HasPrefix(n.name, "nvme"):
		return errors.New("commands to a path of NVMe multipath cannot be seen at the disk")
	}
	return fmt.Errorf("tracking is not proven for the driver of %s", n.name)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func number(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}
