package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/aligned"
)

// fileSource is a raw image file. It is its path: a file that was renamed over it between two passes is the same source.
type fileSource struct {
	path   string
	id     string
	direct bool
}

func (s *fileSource) ID() string   { return s.id }
func (s *fileSource) Name() string { return shortName(s.path) }
func (s *fileSource) Kind() Kind   { return File }

func (s *fileSource) Size(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	info, err := os.Stat(s.path)
	if err != nil {
		return 0, fmt.Errorf("size source: %w", gone(err))
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("size source %s: %w: it is no regular file now", s.path, ErrVanished)
	}
	return info.Size(), nil
}

func (s *fileSource) Open(ctx context.Context) (Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, st, direct, err := openFile(s.path, s.direct, unix.S_IFREG)
	if err != nil {
		return nil, err
	}
	r := &fileReader{reader{name: s.Name(), f: f, size: st.Size, align: 1, sys: pread}, s.path, st}
	r.check = r.same
	if direct {
		r.align = fileAlign(f, st)
		if !r.probeDirect() {
			_ = f.Close()
			plain := *s
			plain.direct = false
			return plain.Open(ctx)
		}
	} else {
		r.dontCache.Store(true)
	}
	return r, nil
}

// fileAlign asks the kernel (6.1) what direct reads of f need; the block size of the file system is enough for all known ones.
func fileAlign(f *os.File, st unix.Stat_t) int {
	align := uint32(max(st.Blksize, 4096))
	_ = control(f, func(fd int) error {
		var sx unix.Statx_t
		err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &sx)
		if err == nil && sx.Mask&unix.STATX_DIOALIGN != 0 && sx.Dio_offset_align != 0 {
			align = max(sx.Dio_offset_align, sx.Dio_mem_align, 512)
		}
		return err
	})
	if align&(align-1) != 0 || align > bounceSize/4 {
		return aligned.Size
	}
	return int(align)
}

type fileReader struct {
	reader
	path string
	st   unix.Stat_t // at open
}

// same checks that path still leads to the file that was opened, and that it was not cut.
func (r *fileReader) same() error {
	var now unix.Stat_t
	if err := unix.Stat(r.path, &now); err != nil {
		return gone(err)
	}
	if now.Dev != r.st.Dev || now.Ino != r.st.Ino {
		return fmt.Errorf("%w: another file is at %s", ErrVanished, r.path)
	}
	if now.Size < r.size {
		return fmt.Errorf("%w: from %d to %d bytes", ErrShrunk, r.size, now.Size)
	}
	return nil
}

func (r *fileReader) NextData(off int64) (start, end int64, err error) {
	if err := r.verify(off); err != nil {
		return 0, 0, err
	}
	if off >= r.size {
		return 0, 0, io.EOF
	}
	err = control(r.f, func(fd int) error {
		// The file offset that this moves is used by nothing else.
		if start, err = unix.Seek(fd, off, unix.SEEK_DATA); err != nil {
			return err
		}
		end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
		return err
	})
	switch {
	case err == nil && start >= off && end > start:
	case errors.Is(err, os.ErrClosed):
		return 0, 0, r.fail(off, 0, err)
	case errors.Is(err, unix.ENXIO) && start < off:
		return 0, 0, io.EOF // a hole up to the end
	default:
		// This file system knows no holes (EINVAL), or the file changed between the two calls: all of it may be data.
		return off, r.size, nil
	}
	if start >= r.size {
		return 0, 0, io.EOF // it grew after open
	}
	return start, min(end, r.size), nil
}
