package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/source"
)

func TestFaulty(t *testing.T) {
	ctx := context.Background()
	image := bytes.Repeat([]byte{1}, 1<<20)
	f := &Faulty{Source: NewMemory("m", image)}
	r, err := f.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	read := func(off int64) (int, error) { return r.ReadAt(buf, off) }

	f.FailReads(100_000, 1000, 1, unix.EIO)
	n, err := read(65536)
	var re *source.ReadError
	if !errors.Is(err, unix.EIO) || !errors.As(err, &re) || n != 100_000-65536 || re.Offset != 100_000 {
		t.Errorf("a read over the bad range gives %d, %v", n, err)
	}
	if n, err := read(65536); n != len(buf) || err != nil {
		t.Errorf("the fault is spent, but the read gives %d, %v", n, err)
	}
	f.FailReads(0, 1, -1, unix.EIO)
	for range 3 {
		if _, err := read(0); !errors.Is(err, unix.EIO) {
			t.Errorf("a lasting fault gives %v", err)
		}
	}
	f.Heal()
	if _, err := read(0); err != nil {
		t.Errorf("after Heal: %v", err)
	}
	seen := int64(-1)
	f.OnRead(func(off int64, _ int) { seen = off })
	if _, err := read(4096); err != nil || seen != 4096 {
		t.Errorf("the hook saw %d, %v", seen, err)
	}
	f.ShrinkTo(500_000)
	if n, err := read(480_000); !errors.Is(err, source.ErrShrunk) || n != 20_000 {
		t.Errorf("over the new end: %d, %v", n, err)
	}
	if _, _, err := r.NextData(0); !errors.Is(err, source.ErrShrunk) {
		t.Errorf("NextData: %v", err)
	}
	if n, err := f.Size(ctx); n != 500_000 || err != nil {
		t.Errorf("Size %d, %v", n, err)
	}
	f.VanishAfter(1)
	if _, err := read(0); err != nil {
		t.Errorf("the read before it vanishes: %v", err)
	}
	if _, err := read(0); !errors.Is(err, source.ErrVanished) {
		t.Errorf("the read after it vanished: %v", err)
	}
	if _, err := f.Open(ctx); !errors.Is(err, source.ErrVanished) {
		t.Errorf("Open: %v", err)
	}
}
