package source

import (
	"context"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/aligned"
)

// deviceSource is a block device. It is the device that its path led to when it was made: if that one is gone, or the kernel
// has given its number to another since (its disk sequence number tells), the source has vanished.
type deviceSource struct {
	path   string
	id     string
	direct bool
	rdev   uint64
	seq    uint64 // disk sequence number, unique since boot; 0: this kernel has none (before 5.15)
}

func newDevice(path string, opts *Options) (Source, error) {
	s := &deviceSource{path: path, direct: opts.Direct != Off}
	f, st, _, err := openFile(path, false, unix.S_IFBLK)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	s.rdev, s.seq = st.Rdev, diskSeq(f)
	s.id = opts.ID
	if s.id == "" {
		s.id = ReadDeviceAttrs(opts.SysRoot, unix.Major(st.Rdev), unix.Minor(st.Rdev), f).StableID()
	}
	return s, nil
}

func (s *deviceSource) ID() string   { return s.id }
func (s *deviceSource) Name() string { return shortName(s.path) }
func (s *deviceSource) Kind() Kind   { return Disk }

func (s *deviceSource) Size(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	f, _, err := s.open(false)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	size, err := deviceSize(f)
	if err != nil {
		return 0, fmt.Errorf("size source %s: %w", s.path, gone(err))
	}
	return size, nil
}

// open opens the device and checks that it is the one.
func (s *deviceSource) open(direct bool) (*os.File, bool, error) {
	f, st, isDirect, err := openFile(s.path, direct, unix.S_IFBLK)
	if err != nil {
		return nil, false, err
	}
	if st.Rdev != s.rdev || diskSeq(f) != s.seq {
		_ = f.Close()
		return nil, false, fmt.Errorf("open source %s: %w: another device is there", s.path, ErrVanished)
	}
	return f, isDirect, nil
}

// Open reads directly unless that was refused. Through the page cache, each range is dropped from the cache before it is read:
// a file system that is mounted from the device writes past the device's own cache, which would give old data for ever.
func (s *deviceSource) Open(ctx context.Context) (Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, direct, err := s.open(s.direct)
	if err != nil {
		return nil, err
	}
	size, err := deviceSize(f)
	if err != nil || size == 0 {
		_ = f.Close()
		if err == nil {
			err = fmt.Errorf("%w: it has no medium", ErrVanished)
		}
		return nil, fmt.Errorf("open source %s: %w", s.path, gone(err))
	}
	r := &deviceReader{reader{name: s.Name(), f: f, size: size, align: 1, sys: pread}, s}
	r.check = r.same
	if direct {
		r.align = deviceAlign(f)
		if !r.probeDirect() {
			_ = f.Close()
			plain := *s
			plain.direct = false
			return plain.Open(ctx)
		}
	} else {
		r.dropFirst = true
		_ = control(f, func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM) }) // read-ahead would be dropped unused
	}
	return r, nil
}

type deviceReader struct {
	reader
	src *deviceSource
}

func (r *deviceReader) same() error {
	size, err := deviceSize(r.f)
	switch {
	case err != nil:
		return gone(err)
	case size == 0 || diskSeq(r.f) != r.src.seq:
		return fmt.Errorf("%w: the device was detached", ErrVanished)
	case size < r.size:
		return fmt.Errorf("%w: from %d to %d bytes", ErrShrunk, r.size, size)
	}
	return nil
}

func (r *deviceReader) NextData(off int64) (start, end int64, err error) {
	if err := r.verify(off); err != nil {
		return 0, 0, err
	}
	if off >= r.size {
		return 0, 0, io.EOF
	}
	return off, r.size, nil
}

// deviceAlign is the logical sector size: what a direct read must be a multiple of.
func deviceAlign(f *os.File) int {
	var align uint32
	_ = control(f, func(fd int) (err error) {
		align, err = unix.IoctlGetUint32(fd, unix.BLKSSZGET)
		return err
	})
	if align < 512 || align > bounceSize/4 || align&(align-1) != 0 {
		return aligned.Size
	}
	return int(align)
}

func deviceSize(f *os.File) (int64, error) {
	n, err := ioctlUint64(f, unix.BLKGETSIZE64)
	return int64(n), err
}

// diskSeq returns 0 where the kernel has no sequence numbers.
func diskSeq(f *os.File) uint64 {
	n, err := ioctlUint64(f, unix.BLKGETDISKSEQ)
	if err != nil {
		return 0
	}
	return n
}

func ioctlUint64(f *os.File, req uintptr) (uint64, error) {
	var v uint64
	err := control(f, func(fd int) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(&v))); errno != 0 {
			return errno
		}
		return nil
	})
	return v, err
}
