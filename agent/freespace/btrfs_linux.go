package freespace

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of btrfs (include/uapi/linux/btrfs.h), as x86 and ARM build their numbers.
const (
	btrfsIocTreeSearchV2 = 3<<30 | btrfsSearchHead<<16 | 0x94<<8 | 17
	btrfsIocDevInfo      = 3<<30 | 4096<<16 | 0x94<<8 | 30
	btrfsIocFsInfo       = 2<<30 | 1024<<16 | 0x94<<8 | 31
)

// btrfsPage is the size of the buffer for answers. An item is at most as large as a node of a tree, 64 KiB.
const btrfsPage = 256 << 10

// btrfsMount finds the mounted btrfs that has the volume among its devices, and its id. The kernel lists devices by their names,
// so copies of a file system, which have its ids, are not taken for it.
func (v *volume) btrfsMount(h *host) (m mount, fsid [16]byte, ok bool) {
	seen := map[string]bool{}
	for _, m := range h.mounts {
		if m.fs != "btrfs" || seen[m.device] {
			continue
		}
		seen[m.device] = true
		dir, err := v.openMount(h.mounts, m)
		if err != nil {
			continue
		}
		id, _, err := btrfsInfo(dir)
		_ = dir.Close()
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join("/sys/fs/btrfs", uuidText(id), "devices", v.name)); err == nil {
			return m, id, true
		}
	}
	return mount{}, fsid, false
}

func uuidText(id [16]byte) string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// btrfsInfo returns the id and the sector size of the file system that dir is in (struct btrfs_ioctl_fs_info_args: at 16 and 36).
func btrfsInfo(dir *os.File) (fsid [16]byte, sector int64, err error) {
	buf := make([]byte, 1024)
	if err := ioctl(dir, btrfsIocFsInfo, unsafe.Pointer(&buf[0])); err != nil {
		return fsid, 0, fmt.Errorf("ask for the id of %s: %w", dir.Name(), err)
	}
	copy(fsid[:], buf[16:])
	return fsid, int64(binary.NativeEndian.Uint32(buf[36:])), nil
}

// btrfsDevice returns the UUID and size of a device of the file system (struct btrfs_ioctl_dev_info_args: at 8 and 32).
func btrfsDevice(dir *os.File, id uint64) (uuid [16]byte, size int64, err error) {
	buf := make([]byte, 4096)
	binary.NativeEndian.PutUint64(buf, id)
	if err := ioctl(dir, btrfsIocDevInfo, unsafe.Pointer(&buf[0])); err != nil {
		return uuid, 0, err
	}
	copy(uuid[:], buf[8:])
	return uuid, int64(min(binary.NativeEndian.Uint64(buf[32:]), math.MaxInt64)), nil
}

// scanBtrfs maps one device of a mounted btrfs: what no block group has, and what is free in those that are not striped. A reason
// why it did not do the second is left in n.
func (v *volume) scanBtrfs(ctx context.Context, dir *os.File, m mount, fsid [16]byte, found *collector, n *Note) error {
	first := make([]byte, btrfsSuperSize)
	if err := v.read(ctx, first, btrfsSuperAt); err != nil {
		return err
	}
	super, err := parseBtrfsSuper(first)
	if err != nil {
		return err
	}
	id, sector, err := btrfsInfo(dir)
	if err != nil {
		return err
	}
	uuid, size, err := btrfsDevice(dir, super.device)
	if err != nil {
		return fmt.Errorf("ask for device %d of %s: %w", super.device, dir.Name(), err)
	}
	if id != fsid || super.fsid != id || super.uuid != uuid {
		return errors.New("its superblock is not that of the mounted file system")
	}
	// Device 0 is there while another device takes the place of one: it is written without being in any tree.
	if _, _, err := btrfsDevice(dir, 0); !errors.Is(err, unix.ENODEV) {
		return errors.New("one of its devices is being replaced")
	}
	if sector < 512 || sector&(sector-1) != 0 {
		return fmt.Errorf("its sectors of %d bytes are not known here", sector)
	}
	b := &btrfsMap{device: super.device, size: min(size, v.size), sector: sector, add: found.add}
	s := &btrfsSearch{dir: dir, buf: make([]byte, btrfsPage)}
	low, high := btrfsKey{super.device, btrfsDevExtent, 0}, btrfsKey{super.device, btrfsDevExtent, math.MaxUint64}
	if err := s.walk(ctx, btrfsDevTree, low, high, b.devExtent); err != nil {
		return err
	}
	b.devEnd()
	if !m.has("space_cache=v2") {
		n.Why = "it has no free space tree (space_cache=v2), so its block groups are sent whole"
		return nil
	}
	low, high = btrfsKey{btrfsChunkTreeObject, btrfsChunkItem, 0}, btrfsKey{btrfsChunkTreeObject, btrfsChunkItem, math.MaxUint64}
	if err := s.walk(ctx, btrfsChunkTree, low, high, b.chunk); err != nil {
		return err
	}
	if err := b.sortChunks(); err != nil {
		return err
	}
	return s.walk(ctx, btrfsFreeSpaceTree, btrfsKey{}, btrfsKey{math.MaxUint64, math.MaxUint8, math.MaxUint64}, b.freeSpace)
}

// btrfsSearch reads items of trees.
type btrfsSearch struct {
	dir *os.File
	buf []byte
}

func (s *btrfsSearch) walk(ctx context.Context, tree uint64, low, high btrfsKey, fn func(btrfsKey, []byte) error) error {
	for more := true; more && low.compare(high) <= 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		btrfsRequest(s.buf, tree, low, high)
		if err := ioctl(s.dir, btrfsIocTreeSearchV2, unsafe.Pointer(&s.buf[0])); err != nil {
			return fmt.Errorf("search tree %d of %s: %w", tree, s.dir.Name(), err)
		}
		var err error
		if low, more, err = btrfsItems(s.buf, low, fn); err != nil {
			return err
		}
	}
	return nil
}
