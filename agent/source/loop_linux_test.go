package source_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
)

func TestLoopDevice(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	for name, c := range map[string]struct {
		mode   source.Mode
		sector int
	}{"direct": {source.Auto, 512}, "direct 4096": {source.Auto, 4096}, "buffered": {source.Off, 512}} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Harness{SizeStep: c.sector, New: func(t *testing.T, image []byte) sourcetest.Made {
				file := writeImage(t, image)
				d := sourcetest.NewLoopDevice(t, file, sourcetest.LoopOptions{SectorSize: c.sector})
				return sourcetest.Made{
					Source: newSource(t, d.Path, c.mode),
					Resize: func(size int64) error { return errors.Join(os.Truncate(file, size), d.Resized()) },
				}
			}})
		})
	}
}

func TestLoopDeviceAttachedAnew(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	d := sourcetest.NewLoopDevice(t, writeImage(t, make([]byte, 1<<20)), sourcetest.LoopOptions{})
	s := newSource(t, d.Path, source.Auto)
	if !strings.HasPrefix(s.ID(), "loop-") || s.Kind() != source.Disk {
		t.Errorf("id %s, kind %s", s.ID(), s.Kind())
	}
	ctx := context.Background()
	if err := d.Reattach(writeImage(t, make([]byte, 1<<20))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(ctx); !errors.Is(err, source.ErrVanished) {
		t.Errorf("Open gives %v, want ErrVanished: another disk is behind the same number", err)
	}
	if _, err := s.Size(ctx); !errors.Is(err, source.ErrVanished) {
		t.Errorf("Size gives %v, want ErrVanished", err)
	}
}

// A file system writes past the cache of the device that it is on; the reader must not give what that cache still has.
func TestDeviceCacheIsNotTrusted(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	for name, mode := range map[string]source.Mode{"direct": source.Auto, "buffered": source.Off} {
		t.Run(name, func(t *testing.T) {
			file := writeImage(t, make([]byte, 1<<20))
			d := sourcetest.NewLoopDevice(t, file, sourcetest.LoopOptions{})
			if _, err := os.ReadFile(d.Path); err != nil { // warm the device's cache
				t.Fatal(err)
			}
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if _, err := f.WriteAt([]byte("new"), 700_001); err != nil {
				t.Fatal(err)
			}
			r, err := newSource(t, d.Path, mode).Open(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			got := make([]byte, 3)
			if _, err := r.ReadAt(got, 700_001); err != nil || string(got) != "new" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

// TestBatchOfBadReads: what the kernel could not read of a batch is an error of its place, and the rest arrives.
func TestBatchOfBadReads(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	image := bytes.Repeat([]byte("good"), 1<<20)
	file := writeImage(t, image)
	d := sourcetest.NewLoopDevice(t, file, sourcetest.LoopOptions{})
	r, err := newSource(t, d.Path, source.Auto).Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := os.Truncate(file, 3<<20); err != nil { // the device still says that it has 4 MiB
		t.Fatal(err)
	}
	var pieces []source.Piece
	for off := int64(0); off < 4<<20; off += 16 << 10 {
		pieces = append(pieces, source.Piece{Off: off, P: source.AlignedBuffer(4096)})
	}
	var bad *source.ReadError
	if err := source.ReadBatch(r, pieces); !errors.As(err, &bad) || bad.Offset < 3<<20 {
		t.Fatalf("got %v", err)
	}
	for _, x := range pieces {
		if x.Off < 3<<20 && !bytes.Equal(x.P, image[:4096]) {
			t.Fatalf("wrong bytes at %d", x.Off)
		}
	}
}
