package ebpf_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// uringParams is struct io_uring_params of linux/io_uring.h.
type uringParams struct {
	sqEntries, cqEntries, flags, threadCPU, idle, features, wq  uint32
	_                                                           [3]uint32
	sqHead, sqTail, sqMask, sqRing, sqFlags, sqDropped, sqArray uint32
	_                                                           uint32
	_                                                           uint64
	cqHead, cqTail, cqMask, cqRing, cqOverflow, cqes, cqFlags   uint32
	_                                                           uint32
	_                                                           uint64
}

// uring writes batches of blocks with io_uring, past the page cache.
func uring(dir string, r *rand.Rand) error {
	const depth, block = 16, 4096
	fd, err := unix.Open(filepath.Join(dir, "file"), unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var p uringParams
	ringFD, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, depth, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return os.NewSyscallError("io_uring_setup", errno)
	}
	defer func() { _ = unix.Close(int(ringFD)) }()
	maps := [4][]byte{}
	for i, m := range []struct{ off, size int64 }{{0, int64(p.sqArray) + 4*depth}, {0x10000000, 64 * depth}, {0x8000000, int64(p.cqes) + 16*int64(p.cqEntries)}, {-1, depth * block}} {
		flags, at := unix.MAP_SHARED, int(ringFD)
		if m.off < 0 {
			flags, at, m.off = unix.MAP_ANON|unix.MAP_PRIVATE, -1, 0
		}
		if maps[i], err = unix.Mmap(at, m.off, int(m.size), unix.PROT_READ|unix.PROT_WRITE, flags); err != nil {
			return err
		}
		defer func() { _ = unix.Munmap(maps[i]) }()
	}
	sq, entries, cq, data := maps[0], maps[1], maps[2], maps[3]
	word := func(b []byte, off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&b[off])) }
	for range 30 {
		fill(data, r)
		tail := atomic.LoadUint32(word(sq, p.sqTail))
		for i := range uint32(depth) {
			slot := (tail + i) & *word(sq, p.sqMask)
			e := entries[64*slot : 64*slot+64]
			clear(e)
			e[0] = 23 // IORING_OP_WRITE
			*(*int32)(unsafe.Pointer(&e[4])) = int32(fd)
			*(*uint64)(unsafe.Pointer(&e[8])) = uint64(r.Int64N(2000)) * block
			*(*uintptr)(unsafe.Pointer(&e[16])) = uintptr(unsafe.Pointer(&data[i*block]))
			*(*uint32)(unsafe.Pointer(&e[24])) = block
			*word(sq, p.sqArray+4*slot) = slot
		}
		atomic.StoreUint32(word(sq, p.sqTail), tail+depth)
		for {
			_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, ringFD, depth, depth, 1, 0, 0)
			if errno == 0 {
				break
			}
			if !errors.Is(errno, unix.EINTR) {
				return os.NewSyscallError("io_uring_enter", errno)
			}
		}
		head := atomic.LoadUint32(word(cq, p.cqHead))
		end := atomic.LoadUint32(word(cq, p.cqTail))
		for ; head != end; head++ {
			at := p.cqes + 16*(head&*word(cq, p.cqMask))
			if res := *(*int32)(unsafe.Pointer(&cq[at+8])); res != block {
				return fmt.Errorf("io_uring wrote %d", res)
			}
		}
		atomic.StoreUint32(word(cq, p.cqHead), head)
	}
	return nil
}
