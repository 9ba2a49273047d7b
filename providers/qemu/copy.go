package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// copyStep is how much is copied between two looks at whether to go on, in bytes.
const copyStep = 8 << 20

// copyDisk makes to a durable copy of from, size bytes long: by sharing blocks where the file system can, else of what is not a hole. An older
// attempt at to is replaced.
func copyDisk(ctx context.Context, to, from string, size int64) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	// What the writer left in the page cache of the source is part of it, and what was read back must not be lost by a power cut.
	if err := src.Sync(); err != nil {
		return err
	}
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) != nil {
		if err := copyData(ctx, dst, src); err != nil {
			return err
		}
	}
	if err := dst.Truncate(size); err != nil {
		return err
	}
	return dst.Sync()
}

// copyData copies the parts of src that are not holes to the same places of dst, which is empty.
func copyData(ctx context.Context, dst, src *os.File) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	for off := int64(0); off < info.Size(); {
		data, err := unix.Seek(int(src.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole up to the end
		}
		if err != nil {
			return fmt.Errorf("look for data at %d: %w", off, err)
		}
		hole, err := unix.Seek(int(src.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("look for a hole at %d: %w", data, err)
		}
		if err := copyRange(ctx, dst, src, data, hole); err != nil {
			return err
		}
		off = hole
	}
	return nil
}

func copyRange(ctx context.Context, dst, src *os.File, from, to int64) error {
	for from < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(to-from, copyStep)
		in, out := from, from
		got, err := unix.CopyFileRange(int(src.Fd()), &in, int(dst.Fd()), &out, int(n), 0)
		if err != nil || got == 0 {
			// Not between these file systems: through memory.
			copied, err := io.Copy(io.NewOffsetWriter(dst, from), io.NewSectionReader(src, from, n))
			if err != nil {
				return err
			}
			if copied == 0 {
				return fmt.Errorf("copy at %d: %w", from, io.ErrUnexpectedEOF)
			}
			got = int(copied)
		}
		from += int64(got)
	}
	return nil
}

// makeDisk makes an empty raw disk. An older attempt is replaced.
func makeDisk(name string, size int64) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// probeReflink finds out whether files in the state directory can share blocks.
func (p *Provider) probeReflink() bool {
	dir := filepath.Join(p.opts.Dir, "probe")
	_ = os.RemoveAll(dir) // of a process that died here
	if os.Mkdir(dir, 0o700) != nil {
		return false
	}
	defer func() { _ = os.RemoveAll(dir) }()
	a, err := os.Create(filepath.Join(dir, "a"))
	if err != nil {
		return false
	}
	defer a.Close()
	b, err := os.Create(filepath.Join(dir, "b"))
	if err != nil {
		return false
	}
	defer b.Close()
	if _, err := a.Write(make([]byte, 64<<10)); err != nil {
		return false
	}
	return unix.IoctlFileClone(int(b.Fd()), int(a.Fd())) == nil
}
