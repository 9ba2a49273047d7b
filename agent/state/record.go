package state

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Recorder collects a cycle's changes. It takes one bit of memory for each chunk of the disk. It belongs to one goroutine.
type Recorder struct {
	base    *Base
	layout  chunker.Layout
	chunks  int64
	changed []uint64 // a bit for each chunk that was set: a word is a leaf of the tree
	ids     *os.File // as "ids", of the chunks that were set
	run     []chunker.ID
	start   int64 // chunk of run[0]; run is not in ids yet
	nodes   []nodeChange
	own     []chunker.ID // scratch of IDs

	held map[int64]chunker.ID // what was set since Hold; nil: not held
}

type nodeChange struct {
	level int
	index int64
	id    chunker.ID
}

// maxRun is how many ids wait to be written together.
const maxRun = 1024

// Record starts the record of a cycle over a disk that is laid out so. Close it in any case.
func (b *Base) Record(layout chunker.Layout) (*Recorder, error) {
	chunks := layout.Chunks()
	dir := b.dir.Path(b.name)
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) { // a file system without nameless files
		if f, err = os.CreateTemp(dir, "record-*"); err == nil {
			err = os.Remove(f.Name())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("record cycle: %w", err)
	}
	return &Recorder{base: b, layout: layout, chunks: chunks, changed: make([]uint64, format.Nodes(chunks, 0)), ids: f,
		run: make([]chunker.ID, 0, maxRun)}, nil
}

// Set notes the id of a chunk. A later one replaces it.
func (r *Recorder) Set(index int64, id chunker.ID) error {
	if index < 0 || index >= r.chunks {
		return fmt.Errorf("record cycle: chunk %d of %d", index, r.chunks)
	}
	if r.held != nil {
		r.held[index] = id
		r.changed[index/format.Fanout] |= 1 << (index % format.Fanout)
		return nil
	}
	if len(r.run) > 0 && index != r.start+int64(len(r.run)) || len(r.run) == maxRun {
		if err := r.flush(); err != nil {
			return err
		}
	}
	if len(r.run) == 0 {
		r.start = index
	}
	r.run = append(r.run, id)
	r.changed[index/format.Fanout] |= 1 << (index % format.Fanout)
	return nil
}

func (r *Recorder) flush() error {
	if len(r.run) == 0 {
		return nil
	}
	_, err := r.ids.WriteAt(bytesOf(r.run), r.start*chunker.IDSize)
	r.run = r.run[:0]
	if err != nil {
		return fmt.Errorf("record cycle: %w", err)
	}
	return nil
}

// IDs fills dst with the ids of chunks from first on as they are now: what was set, else the base's. Zero past the end.
func (r *Recorder) IDs(first int64, dst []chunker.ID) error {
	n := max(0, min(int64(len(dst)), r.chunks-first))
	clear(dst[n:])
	dst = dst[:n]
	if err := r.base.Read(first, dst); err != nil {
		return err
	}
	if !r.anySet(first, n) {
		return nil
	}
	if err := r.flush(); err != nil {
		return err
	}
	if int64(cap(r.own)) < n {
		r.own = make([]chunker.ID, n)
	}
	own := r.own[:n]
	if err := readIDs(r.ids, first, own); err != nil {
		return err
	}
	for i := range dst {
		if r.isSet(first + int64(i)) {
			dst[i] = own[i]
		}
		if id, ok := r.held[first+int64(i)]; ok {
			dst[i] = id
		}
	}
	return nil
}

func (r *Recorder) isSet(i int64) bool { return r.changed[i/format.Fanout]>>(i%format.Fanout)&1 != 0 }

func (r *Recorder) anySet(first, n int64) bool {
	for i := first; i < first+n; i++ {
		if r.isSet(i) {
			return true
		}
	}
	return false
}

// leaves are the leaves of the tree in which a chunk was set.
func (r *Recorder) leaves(yield func(int64) bool) {
	for i, w := range r.changed {
		if w != 0 && !yield(int64(i)) {
			return
		}
	}
}

// allLeaves are those that hold anything, or did.
func (r *Recorder) allLeaves(yield func(int64) bool) {
	for i := range r.changed {
		if !yield(int64(i)) {
			return
		}
	}
}

// Tree makes the tree of what the chunks are now and notes its nodes. emit takes those that the base does not have, or all of them, as
// format.TreeUpdate says, but for those of zeros. changed is how many bytes of chunks differ from the base. Call it once, after the last Set.
func (r *Recorder) Tree(hash *chunker.Hasher, all bool, emit func(id chunker.ID, encoded []byte) error) (root chunker.ID, changed int64, err error) {
	if err := r.flush(); err != nil {
		return root, 0, err
	}
	leaves := iter.Seq[int64](r.leaves)
	old := r.base.Node // without a base: none
	if i := r.base.Info(); i != nil && (all || i.Layout().Chunks() != r.chunks) {
		// The base's nodes stand elsewhere, or do not count.
		leaves = r.allLeaves
		old = func(_ int, _ int64, dst []chunker.ID) error {
			clear(dst)
			return nil
		}
	}
	var was [format.Fanout]chunker.ID
	u := format.TreeUpdate{
		Node: hash, Chunks: r.chunks, Old: old,
		Leaf: func(index int64, dst *[format.Fanout]chunker.ID) error {
			if err := r.IDs(index*format.Fanout, dst[:]); err != nil || r.changed[index] == 0 {
				return err
			}
			if err := r.base.Read(index*format.Fanout, was[:]); err != nil {
				return err
			}
			for i := range was {
				if at := index*format.Fanout + int64(i); was[i] != dst[i] && at < r.chunks {
					_, n := r.layout.Extent(at)
					changed += int64(n)
				}
			}
			return nil
		},
		Emit: func(level int, index int64, id chunker.ID, encoded []byte) error {
			r.nodes = append(r.nodes, nodeChange{level, index, id})
			if encoded == nil {
				return nil
			}
			return emit(id, encoded)
		},
	}
	root, err = u.Run(leaves)
	return root, changed, err
}

// Seal makes the record durable; after that the restpoint may be committed.
func (r *Recorder) Seal(info *BaseInfo) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("record cycle: %w", err)
		}
	}()
	if info.Layout().Chunks() != r.chunks || len(info.Restpoint) > maxRestpoint {
		return fmt.Errorf("restpoint %.80q of %d chunks is not what was recorded", info.Restpoint, info.Layout().Chunks())
	}
	f, err := os.OpenFile(r.base.path("pending"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := &recordWriter{w: bufio.NewWriterSize(f, 64<<10)}
	magic := pendingMagic
	if r.base.ids == nil || r.base.info.Layout().Chunks() != r.chunks {
		magic = fullMagic
	}
	w.bytes([]byte(magic))
	if err := r.writeChunks(w, magic == fullMagic); err != nil {
		return err
	}
	for _, n := range r.nodes {
		w.record(place(n.level+1, n.index), n.id)
	}
	w.trailer(info)
	if err := w.end(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return durable.SyncDir(r.base.dir.Path(r.base.name))
}

// writeChunks writes the ids that were set, or all that are not zero.
func (r *Recorder) writeChunks(w *recordWriter, all bool) error {
	var ids [format.Fanout]chunker.ID
	for leaf, set := range r.changed {
		if set == 0 && !all {
			continue
		}
		first := int64(leaf) * format.Fanout
		if err := r.IDs(first, ids[:]); err != nil {
			return err
		}
		if all {
			set = 0
			for i := range ids {
				if !ids[i].IsZero() {
					set |= 1 << i
				}
			}
		}
		for ; set != 0; set &= set - 1 {
			i := bits.TrailingZeros64(set)
			w.record(place(0, first+int64(i)), ids[i])
		}
	}
	return nil
}

// Close lets go of the record; what was sealed stays.
func (r *Recorder) Close() { r.ids.Close() }

// recordWriter writes records and their checksum. It keeps the first error.
type recordWriter struct {
	w   *bufio.Writer
	sum uint32
	n   uint64
	err error
}

func (w *recordWriter) bytes(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}

func (w *recordWriter) record(place uint64, id chunker.ID) {
	var b [recordSize]byte
	binary.LittleEndian.PutUint64(b[:], place)
	copy(b[8:], id[:])
	w.sum = crc32.Update(w.sum, castagnoli, b[:])
	w.n++
	w.bytes(b[:])
}

func (w *recordWriter) trailer(info *BaseInfo) {
	t := make([]byte, trailerSize)
	binary.LittleEndian.PutUint64(t[0:], uint64(info.Size))
	binary.LittleEndian.PutUint32(t[8:], uint32(info.ChunkSize))
	binary.LittleEndian.PutUint32(t[12:], w.sum)
	binary.LittleEndian.PutUint64(t[16:], w.n)
	copy(t[24:], info.Root[:])
	copy(t[56:56+maxRestpoint], info.Restpoint)
	binary.LittleEndian.PutUint32(t[120:], crc32.Checksum(t[:120], castagnoli))
	w.bytes(t)
}

func (w *recordWriter) end() error {
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

// NextData returns the first range of chunks [first, end) at or after from, below limit, that may have non-zero ids; io.EOF when there is none.
func (r *Recorder) NextData(from, limit int64) (first, end int64, err error) {
	first, end, err = r.base.NextData(from, limit)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	// Leaves in which a chunk was set count as a whole.
	for leaf := from / format.Fanout; leaf*format.Fanout < limit && (err != nil || leaf*format.Fanout < first); leaf++ {
		if r.changed[leaf] != 0 {
			return max(from, leaf*format.Fanout), min(limit, (leaf+1)*format.Fanout), nil
		}
	}
	return first, end, err
}
