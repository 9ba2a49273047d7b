package cycle

import (
	"errors"
	"io"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// errStale: what was remembered of blocks is not of the chunks that the base names. It is forgotten; the chunks are read whole.
var errStale = errors.New("what was remembered of single blocks does not fit the base")

// part is one chunk of a pass over what is marked. Of a chunk whose block hashes are remembered only the blocks are read that were written:
// that is enough for its id, and for a patch of what was sent last.
type part struct {
	index   int64
	whole   bool           // all blocks are read, and sent
	written int            // blocks that are marked
	read    chunker.Blocks // unless whole
	off, n  int            // where they lie in the span's buffer, back to back, in bytes
	sent    state.Sent     // unless whole: what a patch stands on

	// What a worker made of it.
	stale  bool                // what was remembered is of no use
	was    chunker.ID          // what it is of
	patch  chunker.Blocks      // blocks that make the chunk out of that
	hashes []chunker.BlockHash // of what it is now; nil: they are not worth remembering
}

// maxParts is how many parts one span holds.
const maxParts = spanSize / chunker.MinSize

// deep is how many patches of a chunk stand on each other before it is sent whole again. Later passes and the freeze go deeper, because
// there a whole chunk costs time: the next cycle sends it.
const (
	deep       = 8
	deepPasses = format.MaxDepth - 2
	deepFrozen = format.MaxDepth
)

// planner says what must be read of a chunk.
type planner func(index int64) part

// plan calls f with what must be read of each chunk in which anything is marked.
func (d *disk) plan(m *track.Marks, what planner, f func(part) error) error {
	return chunkRanges(m, d.layout, func(first, end int64) error {
		for i := first; i < end; i++ {
			if err := f(what(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// planner reads what m marks. A patch has at most the given depth. With memory nothing is looked up in a file.
func (d *disk) planner(m *track.Marks, depth uint8, memory bool) planner {
	return func(index int64) part { return d.part(m, index, depth, memory) }
}

func (d *disk) part(m *track.Marks, index int64, depth uint8, memory bool) part {
	off, length := d.layout.Extent(index)
	x := part{index: index, whole: true, n: length}
	if d.blocks == nil || length < d.layout.ChunkSize {
		return x
	}
	marked := markedBlocks(m, off, length)
	x.written = marked.Count()
	sent, ok := d.blocks.Known(index, memory)
	// Opening it shall not cost more than twice what a whole chunk does.
	if blocks := length / chunker.BlockSize; ok && sent.Depth < depth && x.written <= blocks/2 && int(sent.Blocks)+x.written <= blocks {
		x.whole, x.n, x.read, x.sent = false, x.written*chunker.BlockSize, marked, sent
	}
	return x
}

// chunkRanges calls f with the runs of chunks that marks lie in.
func chunkRanges(m *track.Marks, l chunker.Layout, f func(first, end int64) error) error {
	size := int64(l.ChunkSize)
	for off := int64(0); ; {
		start, end, err := m.Next(off)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		first, last := start/size, (end+size-1)/size
		for {
			next, to, err := m.Next(last * size)
			if err != nil || next >= (last+1)*size {
				break
			}
			last = (to + size - 1) / size
		}
		if err := f(first, last); err != nil {
			return err
		}
		off = last * size
	}
}

// markedBlocks are the blocks of the n bytes from off on in which anything is marked.
func markedBlocks(m *track.Marks, off int64, n int) (b chunker.Blocks) {
	for at := off; ; {
		start, end, err := m.Next(at)
		if err != nil || start >= off+int64(n) {
			return b
		}
		for i := (start - off) / chunker.BlockSize; i*chunker.BlockSize < min(end-off, int64(n)); i++ {
			b.Set(int(i))
		}
		at = end
	}
}

// spans calls f with spans of what must be read of a disk.
func (d *disk) spans(m *track.Marks, what planner, f func(*span) error) error {
	var s *span
	used := 0
	flush := func() error {
		if s == nil {
			return nil
		}
		s.n = len(s.parts)
		err := f(s)
		s, used = nil, 0
		return err
	}
	err := d.plan(m, what, func(x part) error {
		if s != nil && (len(s.parts) == maxParts || used+x.n > spanSize) {
			if err := flush(); err != nil {
				return err
			}
		}
		if s == nil {
			s = &span{d: d, from: d.reader, parts: make([]part, 0, maxParts)}
		}
		x.off = used
		used += x.n
		s.parts = append(s.parts, x)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// marked reads the chunks of a disk in which anything is marked.
func (p *pipeline) marked(d *disk, m *track.Marks, depth uint8) error {
	err := d.spans(m, d.planner(m, depth, false), p.hand)
	if err != nil {
		return err
	}
	// A question after the last read tells whether the source is still the one that was opened.
	if _, _, err := d.reader.NextData(d.layout.Size); err != nil && !errors.Is(err, io.EOF) {
		return p.fail(err)
	}
	return nil
}

// each calls f with the bounds of the blocks of a part that are read.
func (x *part) each(chunkSize int, f func(start, stop int)) {
	if !x.whole {
		x.read.Each(chunkSize, f)
		return
	}
	for start := 0; start < x.n; start += chunker.BlockSize {
		f(start, min(start+chunker.BlockSize, x.n))
	}
}

// fillParts reads the blocks of a span's parts into its raw buffer, neighbours at once.
func (s *span) fillParts() error {
	var reads []source.Piece
	end := 0
	add := func(off int64, at, n int) {
		if k := len(reads) - 1; k >= 0 && reads[k].Off+int64(len(reads[k].P)) == off && end == at {
			p := &reads[k].P
			*p = (*p)[:len(*p)+n]
		} else {
			reads = append(reads, source.Piece{Off: off, P: s.raw[at : at+n : cap(s.raw)]})
		}
		end = at + n
	}
	last := &s.parts[len(s.parts)-1]
	s.raw = s.raw[:last.off+last.n]
	for i := range s.parts {
		x := &s.parts[i]
		off, _ := s.d.layout.Extent(x.index)
		if x.whole {
			add(off, x.off, x.n)
			continue
		}
		at := x.off
		x.read.Each(s.d.layout.ChunkSize, func(start, stop int) {
			add(off+int64(start), at, stop-start)
			at += stop - start
		})
	}
	if s.held == nil {
		return source.ReadBatch(s.from, reads)
	}
	defer s.held.room.release()
	for _, x := range reads {
		if err := s.held.copy(s.d, x.P, x.Off); err != nil {
			return err
		}
	}
	return nil
}

// blockWorker makes ids and patches out of blocks. It belongs to one worker.
type blockWorker struct {
	hash *chunker.BlockHasher // for chunks of the last size
	data []byte               // blocks of a patch
}

func (b *blockWorker) fit(key *chunker.Key, chunkSize int) {
	if b.hash == nil || b.hash.Blocks()*chunker.BlockSize != chunkSize {
		b.hash = chunker.NewBlockHasher(key, chunkSize)
	}
}

// part names a part that was read, and finds what must be sent of it.
func (w *worker) part(s *span, x *part) chunker.ID {
	d, b := s.d, &w.blocks
	content := s.raw[x.off : x.off+x.n]
	if x.whole && d.blocks != nil {
		d.blocks.Forget(x.index) // it is remembered again if it is sent
	}
	if x.whole && !x.sparse(d) {
		return w.hash.ID(content)
	}
	b.fit(w.p.conf.Keys.ChunkKey(), d.layout.ChunkSize)
	x.hashes = make([]chunker.BlockHash, b.hash.Blocks())
	if x.whole {
		b.hash.All(x.hashes, content)
		return b.hash.ID(x.hashes)
	}
	if x.stale = !d.blocks.Load(x.index, x.hashes); x.stale {
		return chunker.Zero
	}
	x.was = b.hash.ID(x.hashes)
	x.stale = x.was.IsZero()
	x.read.Each(d.layout.ChunkSize, func(start, end int) {
		i := start / chunker.BlockSize
		if now := b.hash.Block(i, content); now != x.hashes[i] {
			x.hashes[i] = now
			x.patch.Set(i)
		}
		content = content[end-start:]
	})
	return b.hash.ID(x.hashes)
}

// sparse reports whether a chunk was written in small pieces, and so may be again.
func (x *part) sparse(d *disk) bool {
	return d.blocks != nil && x.n == d.layout.ChunkSize && x.written <= x.n/chunker.BlockSize/sparse
}

// sparse: at most one block of so many was written.
const sparse = 4

// latePart encodes a part that the master asked for.
func (w *worker) latePart(it *item, x *part) (err error) {
	d, b := it.span.d, &w.blocks
	content := it.span.raw[x.off : x.off+x.n]
	if x.whole {
		w.compress(it, content)
		if x.hashes != nil {
			d.blocks.Store(x.index, x.hashes, state.Sent{})
		}
		return nil
	}
	b.data = b.data[:0]
	x.read.Each(d.layout.ChunkSize, func(start, end int) {
		if x.patch.Get(start / chunker.BlockSize) {
			b.data = append(b.data, content[:end-start]...)
		}
		content = content[end-start:]
	})
	it.data, err = w.comp.EncodeBlocks(it.buf, d.layout.ChunkSize, b.data, &x.patch)
	it.codec, it.base, it.depth, it.sent = chunker.Patch, x.was, x.sent.Depth+1, len(b.data)
	if err == nil {
		d.blocks.Store(x.index, x.hashes, state.Sent{Depth: it.depth, Blocks: x.sent.Blocks + uint16(x.patch.Count())})
	}
	return err
}

// forget drops what is known of a part's chunk that was not sent after all, or became zeros: it is not known how it is stored.
func (s *span) forget(i int) {
	if s.parts != nil && s.d.blocks != nil {
		s.d.blocks.Forget(s.parts[i].index)
	}
}
