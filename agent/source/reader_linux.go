package source

import (
	"errors"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// locateStep is the grain in bytes with which the place of a read error is found, unless the alignment is coarser.
const locateStep = 4096

// maxFolio is the most bytes that the page cache holds as one piece, which is dropped whole or not at all.
var maxFolio = os.Getpagesize() << 9

// reader is what the readers of files and devices share: ReadAt over a descriptor.
//
//	ReadAt ─► aligned, or buffered ───────────────► readFull ─► pread
//	       └► unaligned ─► bounce, rounded outwards ──┘   └► on EIO: again in small steps, to find the bad block
type reader struct {
	name  string
	f     *os.File
	size  int64
	align int                                                       // 1: through the page cache
	check func() error                                              // is it still what was opened?
	sys   func(fd int, p []byte, off int64, flags int) (int, error) // preadv2; a test makes it fail

	dontCache atomic.Bool // read with RWF_DONTCACHE until the kernel refuses it
	dropFirst bool        // drop a range from the page cache before it is read: see deviceSource.Open
}

func pread(fd int, p []byte, off int64, flags int) (int, error) {
	if flags == 0 {
		return unix.Pread(fd, p, off)
	}
	return unix.Preadv2(fd, [][]byte{p}, off, flags)
}

func (r *reader) Size() int64 { return r.size }
func (r *reader) Align() int  { return r.align }

func (r *reader) Close() error { return r.f.Close() }

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, r.fail(off, len(p), unix.EINVAL)
	}
	if off >= r.size {
		return 0, io.EOF
	}
	var end error
	if rest := r.size - off; int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	n, err := r.readRange(p, off)
	if err != nil {
		return n, r.fail(off+int64(n), len(p)-n, err)
	}
	return n, end
}

// readRange fills p from bytes that exist by what was seen at open.
func (r *reader) readRange(p []byte, off int64) (int, error) {
	if r.align == 1 || isAligned(p, off, r.align) {
		return r.readFull(p, off, len(p))
	}
	bounce := bounces.Get().(*[]byte)
	defer bounces.Put(bounce)
	mask := int64(r.align - 1)
	done := 0
	for done < len(p) {
		at := off + int64(done)
		from := at &^ mask
		head := int(at - from)
		want := min(len(p)-done+head, bounceSize)
		buf := (*bounce)[:(want+int(mask))&^int(mask)]
		n, err := r.readFull(buf, from, want)
		if n > head {
			done += copy(p[done:], buf[head:n])
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readFull reads at least want bytes into p, which may be longer only because a direct read must be: at the end of a file
// such a read comes back short.
func (r *reader) readFull(p []byte, off int64, want int) (int, error) {
	n, err := r.readSteps(p, off, want, len(p))
	if !errors.Is(err, unix.EIO) {
		return n, err
	}
	// A failed read of many blocks does not say which is bad. Reading on in small steps does, and heals a passing fault.
	n &^= r.align - 1
	m, err := r.readSteps(p[n:], off+int64(n), want-n, max(r.align, locateStep))
	return n + m, err
}

// readSteps is readFull with system calls of at most step bytes.
func (r *reader) readSteps(p []byte, off int64, want, step int) (int, error) {
	n := 0
	for n < want {
		m, err := r.pread(p[n:min(len(p), n+step)], off+int64(n))
		if err != nil {
			return n, err
		}
		if m == 0 {
			if err := r.check(); err != nil {
				return n, err
			}
			return n, ErrShrunk // and grew again since
		}
		n += m
	}
	return n, nil
}

func (r *reader) pread(p []byte, off int64) (n int, err error) {
	err = control(r.f, func(fd int) error {
		if r.dropFirst {
			mask := int64(maxFolio - 1)
			from, to := off&^mask, (off+int64(len(p))+mask)&^mask
			_ = unix.Fadvise(fd, from, to-from, unix.FADV_DONTNEED)
		}
		for {
			flags := 0
			if r.dontCache.Load() {
				flags = unix.RWF_DONTCACHE
			}
			n, err = r.sys(fd, p, off, flags)
			switch {
			case errors.Is(err, unix.EINTR):
			case flags != 0 && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)):
				r.dontCache.Store(false)
			default:
				return err
			}
		}
	})
	return max(n, 0), err
}

// probeDirect reports whether direct reads work; some file systems take the flag at open and refuse the read.
func (r *reader) probeDirect() bool {
	bounce := bounces.Get().(*[]byte)
	defer bounces.Put(bounce)
	_, err := r.pread((*bounce)[:r.align], 0)
	return !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP)
}

// verify is check as an error of this place.
func (r *reader) verify(off int64) error {
	if off < 0 {
		return r.fail(off, 0, unix.EINVAL)
	}
	if err := r.check(); err != nil {
		return r.fail(off, 0, err)
	}
	return nil
}

// fail makes a ReadError. A device that went away answers reads with all kinds of errors, so it is asked whether it is there.
func (r *reader) fail(off int64, length int, err error) error {
	err = gone(err)
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) {
		if now := r.check(); now != nil {
			err = now
		}
	}
	return &ReadError{Source: r.name, Offset: off, Length: length, Err: err}
}
