package state_test

import (
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/chunker"
)

const blocks = chunker.MinSize / chunker.BlockSize

// hashes makes those of a chunk in which one block is another.
func hashes(chunk int64, other int) []chunker.BlockHash {
	h := make([]chunker.BlockHash, blocks)
	for i := range h {
		h[i][0], h[i][1] = byte(chunk)+1, byte(i)
	}
	if other >= 0 {
		h[other][2] = 1
	}
	return h
}

func disk(t *testing.T, b *state.Blocks) *state.DiskBlocks {
	t.Helper()
	d, err := b.Disk("disk", chunker.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestBlocksRemembered: what is stored is there for the next cycle, and for the next agent; what was sent whole only after it was settled.
func TestBlocksRemembered(t *testing.T) {
	dir := open(t, t.TempDir())
	defer func() { _ = dir.Close() }()
	b := state.NewBlocks(dir, 0)
	defer func() { b.Close() }()
	d := disk(t, b)
	know := func(step string, chunk int64, memory bool, want ...state.Sent) {
		t.Helper()
		how, ok := d.Known(chunk, memory)
		if ok != (len(want) == 1) || ok && how != want[0] {
			t.Errorf("%s: chunk %d: %v, %+v, want %+v", step, chunk, ok, how, want)
		}
	}
	whole, patch := state.Sent{}, state.Sent{Depth: 3, Blocks: 300}
	know("empty", 7, false)
	d.Store(7, hashes(7, -1), whole)
	if know("not committed", 7, false); d.Fresh() != 1 {
		t.Errorf("%d chunks are fresh", d.Fresh())
	}
	d.Settle()
	know("settled", 7, true, whole)
	d.Store(7, hashes(7, 3), patch)
	d.Store(600, hashes(600, 9), whole)
	d.Settle()
	know("patched", 7, true, patch)
	d.Store(8, hashes(8, -1), whole)
	d = disk(t, b) // the cycle died
	know("died", 8, true)
	know("died", 7, true, patch)
	d.Forget(600)
	know("forgotten", 600, false)
	d.Doubt()
	know("doubted", 7, true)
	know("doubted", 7, false, patch)

	b.Close()
	b = state.NewBlocks(dir, 0)
	d = disk(t, b)
	know("new agent", 7, true) // the file may be frozen
	know("new agent", 7, false, patch)
	know("new agent", 7, true, patch)
	know("new agent", 600, false)
	now := make([]chunker.BlockHash, blocks)
	if !d.Load(7, now) || !slices.Equal(now, hashes(7, 3)) {
		t.Error("hashes are not what was stored")
	}
	if err := d.Reset(); err != nil {
		t.Fatal(err)
	}
	know("reset", 7, false)
	if err := d.Err(); err != nil {
		t.Error(err)
	}
}

// TestBlocksBounded: the file keeps to its limit, and is begun anew when there is no room left for what is written now.
func TestBlocksBounded(t *testing.T) {
	path := t.TempDir()
	dir := open(t, path)
	defer func() { _ = dir.Close() }()
	const limit = 64 << 10
	b := state.NewBlocks(dir, limit)
	defer b.Close()
	for cycle := range int64(8) {
		d := disk(t, b)
		for i := range int64(1000) {
			d.Store(cycle*5000+i*4, hashes(i, -1), state.Sent{}) // a page of the file system each
		}
		d.Settle()
		if _, ok := d.Known(cycle*5000, true); cycle%2 == 0 && !ok {
			t.Errorf("cycle %d: nothing was remembered", cycle)
		}
	}
	files, err := filepath.Glob(filepath.Join(path, "base/*/blocks-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	if used := allocated(t, files[0]); used > 4*limit {
		t.Errorf("the file takes %d bytes, the limit is %d", used, limit)
	}
}

func allocated(t *testing.T, name string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// TestBlocksHeld: while they are held nothing is written, and what is stored or forgotten is forgotten, also by the next agent.
func TestBlocksHeld(t *testing.T) {
	dir := open(t, t.TempDir())
	defer func() { _ = dir.Close() }()
	b := state.NewBlocks(dir, 0)
	d := disk(t, b)
	for chunk := range int64(3) {
		d.Store(chunk, hashes(chunk, -1), state.Sent{})
	}
	d.Settle()
	before := d.Written()
	d.Hold()
	d.Store(0, hashes(0, 3), state.Sent{Depth: 1, Blocks: 1})
	d.Forget(1)
	if d.Written() != before {
		t.Error("something was written while it was held")
	}
	d.Release()
	for range 2 {
		for chunk, want := range []bool{false, false, true} {
			if _, ok := d.Known(int64(chunk), false); ok != want {
				t.Errorf("chunk %d is known: %v", chunk, ok)
			}
		}
		b.Close()
		b = state.NewBlocks(dir, 0)
		d = disk(t, b)
	}
	b.Close()
}
