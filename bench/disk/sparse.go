package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Extent is a range of a disk in bytes.
type Extent struct{ Offset, Length int64 }

// step is how much is read or written at once.
const step = 1 << 20

// Extents lists the ranges of f that are not holes, in order, and f's size.
func Extents(f *os.File) (list []Extent, size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("list extents: %w", err)
	}
	size = info.Size()
	for off := int64(0); off < size; {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("list extents of %s: %w", f.Name(), err)
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return nil, 0, fmt.Errorf("list extents of %s: %w", f.Name(), err)
		}
		end = min(end, size)
		list = append(list, Extent{start, end - start})
		off = end
	}
	return list, size, nil
}

// each opens a file and calls do for pieces of at most step bytes of its data.
func each(ctx context.Context, path string, do func(f *os.File, e Extent) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	extents, _, err := Extents(f)
	if err != nil {
		return err
	}
	for _, e := range extents {
		for off := e.Offset; off < e.Offset+e.Length; off += step {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(f, Extent{off, min(step, e.Offset+e.Length-off)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Copy makes a sparse copy.
func Copy(ctx context.Context, from, to string) (err error) {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(info.Size()); err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	buf := make([]byte, step)
	err = each(ctx, from, func(f *os.File, e Extent) error {
		if _, err := f.ReadAt(buf[:e.Length], e.Offset); err != nil {
			return err
		}
		_, err := out.WriteAt(buf[:e.Length], e.Offset)
		return err
	})
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	return nil
}

// Warm brings the data of a file into the page cache, and lets go what the cache holds of its holes, which would only push
// data out. It returns the bytes that were read.
func Warm(ctx context.Context, path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("warm: %w", err)
	}
	defer f.Close()
	extents, size, err := Extents(f)
	if err != nil {
		return 0, err
	}
	var hole int64
	for _, e := range append(extents, Extent{size, 0}) {
		if e.Offset > hole {
			_ = unix.Fadvise(int(f.Fd()), hole, e.Offset-hole, unix.FADV_DONTNEED) // advice
		}
		hole = e.Offset + e.Length
	}
	var n int64
	buf := make([]byte, step)
	err = each(ctx, path, func(f *os.File, e Extent) error {
		n += e.Length
		_, err := f.ReadAt(buf[:e.Length], e.Offset)
		return err
	})
	if err != nil {
		return n, fmt.Errorf("warm %s: %w", path, err)
	}
	return n, nil
}

// Compare returns an error that names the first difference between two disks. Holes read as zeros.
func Compare(ctx context.Context, a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return fmt.Errorf("compare disks: %w", err)
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return fmt.Errorf("compare disks: %w", err)
	}
	defer fb.Close()
	ea, sizeA, err := Extents(fa)
	if err != nil {
		return err
	}
	eb, sizeB, err := Extents(fb)
	if err != nil {
		return err
	}
	if sizeA != sizeB {
		return fmt.Errorf("compare disks: %s has %d bytes, %s has %d", a, sizeA, b, sizeB)
	}
	pa, pb := make([]byte, step), make([]byte, step)
	for _, e := range append(ea, eb...) { // what is a hole in both is equal; the common part is read from the cache twice
		for off := e.Offset; off < e.Offset+e.Length; off += step {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(step, e.Offset+e.Length-off)
			if _, err := fa.ReadAt(pa[:n], off); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("compare disks: %w", err)
			}
			if _, err := fb.ReadAt(pb[:n], off); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("compare disks: %w", err)
			}
			if !bytes.Equal(pa[:n], pb[:n]) {
				return fmt.Errorf("compare disks: %s and %s differ between %d and %d", a, b, off, off+n)
			}
		}
	}
	return nil
}
