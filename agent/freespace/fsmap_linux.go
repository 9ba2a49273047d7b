package freespace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fsIocGetfsmap is FS_IOC_GETFSMAP, _IOWR('X', 59, struct fsmap_head), as x86 and ARM build such numbers. Where they are built
// otherwise the kernel knows no such request, and everything is sent.
const fsIocGetfsmap = 3<<30 | fsmapHead<<16 | 'X'<<8 | 59

// fsmapPage is how many records are asked for at once.
const fsmapPage = 2048

// scanFsmap maps a mounted ext2, ext3, ext4 or xfs.
func (v *volume) scanFsmap(ctx context.Context, dir *os.File, found *collector) error {
	w := &fsmapWalk{device: encodeDev(v.major, v.minor), size: v.size}
	buf := make([]byte, fsmapHead+fsmapPage*fsmapRecord)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.next(buf)
		err := ioctl(dir, fsIocGetfsmap, unsafe.Pointer(&buf[0]))
		if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
			return errors.New("the kernel has no map of it to give (FS_IOC_GETFSMAP)")
		}
		if err != nil {
			return fmt.Errorf("ask for the map of %s: %w", dir.Name(), err)
		}
		done, err := w.page(buf, found.add)
		if err != nil || done {
			return err
		}
	}
}

// encodeDev is new_encode_dev of include/linux/kdev_t.h, in which records name their device.
func encodeDev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}
