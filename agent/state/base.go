package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// A base is one disk's tree in the last restpoint that the master listed: a sparse file "ids" of 32 bytes for each chunk, in which a
// hole is zero chunks, a file "nodes" of the ids of its nodes, level by level, and "base.json" that says of which restpoint and tree.
//
// A cycle changes it in four steps, and a crash between any two leaves a base that is right or none:
//
//	record  ids of changed chunks go to a file without a name, where later ones replace earlier ones
//	seal    what changed goes to "pending", with a trailer (restpoint, root, CRC); synced before the restpoint is committed
//	        ── the master lists the restpoint ──
//	apply   base.json is removed; the records are written into "ids", synced; base.json names the new restpoint
//	drop    "pending" is removed
//
// At the next start a sealed "pending" is applied if the master's last restpoint is the one it names, else dropped. Applying
// again does no harm.

// BaseInfo says what a base is of.
type BaseInfo struct {
	Restpoint string     `json:"restpoint"`
	Root      chunker.ID `json:"root"`
	Size      int64      `json:"size"`
	ChunkSize int        `json:"chunk_size"`
}

// Layout is how the disk was split.
func (b *BaseInfo) Layout() chunker.Layout {
	return chunker.Layout{Size: b.Size, ChunkSize: b.ChunkSize}
}

// Base is the base of one disk. It belongs to one goroutine.
type Base struct {
	dir  *Dir
	name string // folder below the state directory
	info *BaseInfo
	ids  *os.File // nil: no base
	tree *os.File // "nodes"
}

// OpenBase opens the base of a disk, after settling what an earlier cycle left: last is the master's last restpoint of this
// machine, empty when it has none. A base that is damaged is as good as none.
func OpenBase(d *Dir, disk, last string) (*Base, error) {
	sum := sha256.Sum256([]byte(disk))
	b := &Base{dir: d, name: filepath.Join("base", hex.EncodeToString(sum[:12]))}
	if err := os.MkdirAll(d.Path(b.name), 0o700); err != nil {
		return nil, fmt.Errorf("open base: %w", err)
	}
	if err := b.settle(last); err != nil {
		return nil, err
	}
	info := new(BaseInfo)
	ok, err := d.Read(filepath.Join(b.name, "base.json"), info)
	if err != nil || !ok || info.Restpoint != last || info.Layout().Check() != nil {
		return b, b.Drop() // none, or not of the last restpoint: everything is offered
	}
	if b.ids, err = os.Open(b.path("ids")); err == nil {
		b.tree, err = os.Open(b.path("nodes"))
	}
	if err != nil {
		return b, b.Drop()
	}
	b.info = info
	return b, nil
}

func (b *Base) path(name string) string { return b.dir.Path(filepath.Join(b.name, name)) }

// settle applies or drops what a cycle left behind.
func (b *Base) settle(last string) error {
	p, err := readPending(b.path("pending"))
	if err == nil && last != "" && p.info.Restpoint == last {
		return b.apply(p)
	}
	if err == nil {
		_ = p.f.Close() // it was only read
	}
	if err := os.Remove(b.path("pending")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open base: %w", err)
	}
	return nil
}

// Info says what the base is of; nil: there is none.
func (b *Base) Info() *BaseInfo { return b.info }

// Close closes the base.
func (b *Base) Close() {
	for _, f := range []*os.File{b.ids, b.tree} {
		if f != nil {
			f.Close()
		}
	}
	b.ids, b.tree = nil, nil
}

// Read fills dst with the ids of chunks from first on: zero past the end, and without a base.
func (b *Base) Read(first int64, dst []chunker.ID) error { return readIDs(b.ids, first, dst) }

// Node fills dst with the ids of a level's nodes from first on, as Read does.
func (b *Base) Node(level int, first int64, dst []chunker.ID) error {
	if b.info == nil {
		clear(dst)
		return nil
	}
	chunks := b.info.Layout().Chunks()
	n := max(0, min(int64(len(dst)), format.Nodes(chunks, level)-first))
	clear(dst[n:])
	return readIDs(b.tree, nodeAt(chunks, level)+first, dst[:n])
}

// nodeAt is where a level's nodes begin in "nodes", in ids.
func nodeAt(chunks int64, level int) int64 {
	var at int64
	for l := range level {
		at += format.Nodes(chunks, l)
	}
	return at
}

func readIDs(f *os.File, first int64, dst []chunker.ID) error {
	if f == nil || len(dst) == 0 {
		clear(dst)
		return nil
	}
	raw := bytesOf(dst)
	n, err := f.ReadAt(raw, first*chunker.IDSize)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read base: %w", err)
	}
	clear(raw[n:])
	return nil
}

// NextData returns the first range of chunks [first, end) at or after chunk from, below limit, that may have non-zero ids in the base;
// io.EOF when there is none. It lets a scan step over what was and is a hole.
func (b *Base) NextData(from, limit int64) (first, end int64, err error) {
	if b.ids == nil || from >= limit {
		return 0, 0, io.EOF
	}
	start, err := unix.Seek(int(b.ids.Fd()), from*chunker.IDSize, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read base: %w", err)
	}
	stop, err := unix.Seek(int(b.ids.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("read base: %w", err)
	}
	first = max(from, start/chunker.IDSize)
	end = min(limit, (stop+chunker.IDSize-1)/chunker.IDSize)
	if first >= end {
		return 0, 0, io.EOF
	}
	return first, end, nil
}

// Drop forgets the base: the next cycle offers everything.
func (b *Base) Drop() error {
	b.Close()
	b.info = nil
	for _, name := range []string{"base.json", "pending"} {
		if err := os.Remove(b.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("drop base: %w", err)
		}
	}
	return nil
}
