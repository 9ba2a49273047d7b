package load

import (
	"bytes"
	"compress/flate"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Unix(1000, 0)

func TestPace(t *testing.T) {
	p := pace{rate: 1000 << 10}
	now := start
	for range 2000 { // two seconds of writes that take no time
		now = now.Add(p.next(now, 1<<10))
	}
	if d := now.Sub(start); d < 1990*time.Millisecond || d > 2001*time.Millisecond {
		t.Errorf("2000 KiB at 1000 KiB/s went in %v", d)
	}
	if (&pace{}).next(start, 1<<30) != 0 {
		t.Error("no rate is a limit")
	}
}

func TestPaceCatchesUp(t *testing.T) {
	for _, c := range []struct{ stall, caught time.Duration }{{300 * time.Millisecond, 300 * time.Millisecond}, {time.Minute, debt}} {
		p := pace{rate: 1 << 20}
		p.next(start, 1<<10)
		now := start.Add(c.stall)
		free := 0
		for p.next(now, 1<<10) == 0 {
			free++
		}
		if got := time.Duration(free) * time.Second / 1024; got < c.caught-5*time.Millisecond || got > c.caught+5*time.Millisecond {
			t.Errorf("after a stall of %v, %v are caught up, want %v", c.stall, got, c.caught)
		}
	}
}

func TestStalls(t *testing.T) {
	var s stalls
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	s.add(at(0), at(0).Add(shortest-1))
	s.add(at(10), at(20))
	s.add(at(30), at(70))
	for _, c := range []struct{ from, to, want int }{{0, 5, 0}, {0, 10, 10}, {20, 29, 10}, {15, 30, 40}, {50, 50, 40}, {71, 100, 0}, {0, 100, 40}} {
		if got := s.longest(at(c.from), at(c.to)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("from %d to %d: %v, want %d ms", c.from, c.to, got, c.want)
		}
	}
	for i := range 2 * remembered {
		s.add(at(1000+2*i), at(1001+2*i))
	}
	if len(s.list) != remembered || s.longest(at(0), at(100)) != 0 || s.longest(at(1000+4*remembered-2), at(1<<30)) == 0 {
		t.Errorf("%d stalls are remembered, and not the newest", len(s.list))
	}
}

func TestFill(t *testing.T) {
	b := make([]byte, 64<<10)
	r := rand.New(rand.NewPCG(1, 2))
	fill(b, r)
	var z bytes.Buffer
	w, err := flate.NewWriter(&z, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := z.Len(); n < len(b)*45/100 || n > len(b)*60/100 {
		t.Errorf("64 KiB compress to %d bytes, want half", n)
	}
	again := bytes.Clone(b)
	fill(again, r)
	for off := 0; off < len(b); off += 4096 {
		if bytes.Equal(b[off:off+4096], again[off:off+4096]) {
			t.Fatal("two blocks are equal")
		}
	}
}

// file is one that can be written past the page cache if its folder's file system can.
func file(t *testing.T, size int64) string {
	path := filepath.Join(t.TempDir(), "file")
	if err := Fill(t.Context(), path, size, 1); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWriter(t *testing.T) {
	path := file(t, 1<<20+4096)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != 1<<20+4096 || bytes.Equal(before[1<<20:], make([]byte, 4096)) {
		t.Fatalf("%d bytes were made, or their end is empty", len(before))
	}
	w, err := Start(t.Context(), Options{Path: path, Size: 1 << 20, Block: 4096, Buffered: true, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	for w.Written() < 1<<20 {
		select {
		case <-w.Failed():
			t.Fatal(w.Stop())
		case <-time.After(time.Millisecond):
		}
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for off := 0; off < 1<<20; off += 4096 {
		if !bytes.Equal(before[off:off+4096], after[off:off+4096]) {
			changed++
		}
	}
	if changed < 100 || !bytes.Equal(before[1<<20:], after[1<<20:]) {
		t.Errorf("%d of 256 blocks changed, or what lies behind them", changed)
	}
}

func TestRun(t *testing.T) {
	path := file(t, 1<<20)
	if took, err := Run(t.Context(), Options{Path: path, Size: 1 << 20, Block: 8192, Buffered: true}, 1<<20); err != nil || took <= 0 {
		t.Errorf("%v, %v", took, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ended, Options{Path: path, Size: 1 << 20, Block: 8192, Buffered: true}, 1<<20); err == nil {
		t.Error("it writes although it should stop")
	}
	for _, o := range []Options{
		{Path: path, Size: 1 << 20}, {Path: path, Size: 1 << 20, Block: 1000}, {Path: path, Size: 100, Block: 4096}, {Path: path + "x", Size: 1 << 20, Block: 4096},
	} {
		if _, err := Run(t.Context(), o, 4096); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestWriterFails(t *testing.T) {
	w, err := Start(t.Context(), Options{Path: "/dev/full", Size: 1 << 20, Block: 4096, Buffered: true})
	if err != nil {
		t.Fatal(err)
	}
	<-w.Failed()
	if err := w.Stop(); err == nil {
		t.Error("a full disk is no error")
	}
}

func TestPieces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := Pieces(t.Context(), path, 1<<20, 64<<10, 5, 1); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	full := 0
	for off := 0; off < len(b); off += 64 << 10 {
		if !bytes.Equal(b[off:off+64<<10], make([]byte, 64<<10)) {
			full++
		}
	}
	if len(b) != 1<<20 || full != 5 {
		t.Errorf("%d pieces in %d bytes, want 5 in 1 MiB", full, len(b))
	}
	if err := Pieces(t.Context(), path, 1<<20, 64<<10, 9, 1); err == nil {
		t.Error("more than half of all places is taken for random")
	}
}
