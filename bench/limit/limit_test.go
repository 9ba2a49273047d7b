package limit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/bench/disk"
	"github.com/openmigrate/openmigrate/chunker"
)

const diskSize = 16<<20 + 4096 // the last chunk is short

// testDisk has text, random data, three equal chunks, zeros that are no hole, and holes.
func testDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := disk.Sparse(path, diskSize, 4<<20, 4, 1); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	same := make([]byte, chunker.DefaultSize)
	for i := range same {
		same[i] = byte(i / 100)
	}
	for _, w := range []struct {
		chunk   int64
		content []byte
	}{{5, same}, {6, same}, {30, same}, {40, make([]byte, chunker.DefaultSize)}, {64, []byte("end")}} {
		if _, err := f.WriteAt(w.content, w.chunk*chunker.DefaultSize); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestReplicate(t *testing.T) {
	path := testDisk(t)
	res, err := Replicate(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	const chunks = 16 + 1 + 1 // Sparse's four pieces of 1 MiB, the repeated chunk, the end
	const unique = 17*chunker.DefaultSize + 4096
	if res.Chunks != chunks || res.Unique != unique || res.Zero < chunker.DefaultSize || res.Read > diskSize/2 {
		t.Errorf("got %+v; want %d chunks, %d unique bytes, a chunk of zeros, holes not read", res, chunks, unique)
	}
	if res.Stored < 2<<20 || res.Stored > 4<<20 {
		t.Errorf("%d bytes stored: half of the data is random, the rest is text", res.Stored)
	}
	if res.Wall <= 0 || res.CPU <= 0 {
		t.Errorf("no time passed: %+v", res)
	}
	scan, err := Scan(t.Context(), path, 0)
	if err != nil || scan.Chunks != chunks || scan.Unique != unique || scan.Stored != 0 {
		t.Errorf("scan: %+v, %v", scan, err)
	}
	if small, err := Scan(t.Context(), path, chunker.MinSize); err != nil || small.Chunks <= chunks {
		t.Errorf("scan with small chunks: %+v, %v", small, err)
	}
	if _, err := Scan(t.Context(), path, 1000); err == nil {
		t.Error("a bad chunk size is taken")
	}
	if _, err := Scan(t.Context(), path+"x", 0); err == nil {
		t.Error("a missing disk is taken")
	}
}

func TestRestore(t *testing.T) {
	path := testDisk(t)
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	prepared, err := Prepare(t.Context(), path, cache, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, durable := range map[string]bool{"durable": true, "fast": false} {
		out := filepath.Join(dir, name)
		res, err := Restore(t.Context(), cache, out, durable)
		if err != nil {
			t.Fatal(err)
		}
		if res.Chunks != 18 || res.Stored <= 0 || res.Unique <= prepared.Zero {
			t.Errorf("%s: %+v", name, res)
		}
		if err := disk.Compare(t.Context(), path, out); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Restore(t.Context(), cache, out, durable); err == nil {
			t.Errorf("%s: an existing file is written over", name)
		}
	}
	b, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(cache, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), cache, filepath.Join(dir, "damaged"), false); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged chunk is restored: %v", err)
	}
}
