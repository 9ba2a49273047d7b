package cycle

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/chunker"
)

// errTooMuch: more was written than fits into memory while the file systems are frozen.
var errTooMuch = errors.New("too much was written since the last pass")

// held is what the rest of a restpoint is read into, ahead of the freeze and within it: each block of a disk once, in memory that belongs to packs
// otherwise. A block that was written since is read again into its place.
type held struct {
	room  *room
	key   *chunker.Key
	depth uint8 // of patches that are read ahead, at most
	disks map[*disk]*heldDisk
	hash  blockWorker
	have  []chunker.BlockHash // scratch of prove
}

type heldDisk struct {
	begun  bool             // all that was left was read once
	whole  map[int64]bool   // chunks of which a patch would be too deep
	proven map[int64]bool   // chunks of which what is remembered fits the base
	blocks map[int64][]byte // by number of the block on its disk
}

func newHeld(room *room, key *chunker.Key, depth uint8) *held {
	return &held{room: room, key: key, depth: depth, disks: map[*disk]*heldDisk{}}
}

// planner says what is read of a disk. What is written in the last moment may have deeper patches: there whole chunks would cost time.
func (h *held) planner(d *disk) planner {
	hd := h.disks[d]
	return func(index int64) part {
		x := d.part(d.todo, index, deepFrozen, true)
		if !x.whole && !hd.begun && x.sent.Depth >= h.depth {
			hd.whole[index] = true
		}
		if hd.whole[index] && !x.whole {
			return d.part(d.todo, index, 0, true)
		}
		return x
	}
}

// read reads, of the chunks in which since marks anything, what must be sent of them for d.todo: all that is marked in since, and what is not held
// yet. The first time that is all of d.todo. It returns how many bytes it was. With prove it looks whether what is remembered of blocks is right, which takes a file;
// after the freeze it is too late to read the chunk whole. errTooMuch: there is no room for them.
func (h *held) read(ctx context.Context, d *disk, since *track.Marks, prove bool) (n int64, err error) {
	hd := h.disks[d]
	if hd == nil {
		hd = &heldDisk{whole: map[int64]bool{}, proven: map[int64]bool{}, blocks: map[int64][]byte{}}
		h.disks[d] = hd
		since = d.todo
	}
	what := h.planner(d)
	var pieces []source.Piece
	err = chunkRanges(since, d.layout, func(first, end int64) error {
		for i := first; i < end; i++ {
			x := what(i)
			if prove && !x.whole && !hd.proven[i] {
				if err := h.prove(d, i); err != nil {
					return err
				}
				hd.proven[i] = true
				x = what(i)
			}
			more, err := h.chunk(d, x, since)
			if err != nil {
				return err
			}
			pieces = append(pieces, more...)
		}
		return nil
	})
	hd.begun = true
	if err != nil || len(pieces) == 0 {
		return 0, err
	}
	for _, x := range pieces {
		n += int64(len(x.P))
	}
	for len(pieces) > 0 { // so many at once that it is noticed when the time is over
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		k := min(len(pieces), batchPieces)
		if err := source.ReadBatch(d.reader, pieces[:k]); err != nil {
			return 0, err
		}
		pieces = pieces[k:]
	}
	return n, nil
}

// prove forgets what is remembered of a chunk's blocks if it does not lead to the id that the chunk has.
func (h *held) prove(d *disk, index int64) error {
	h.hash.fit(h.key, d.layout.ChunkSize)
	h.have = slices.Grow(h.have[:0], h.hash.hash.Blocks())[:h.hash.hash.Blocks()]
	var id [1]chunker.ID
	if err := d.rec.IDs(index, id[:]); err != nil {
		return err
	}
	if !d.blocks.Load(index, h.have) || h.hash.hash.ID(h.have) != id[0] || id[0].IsZero() {
		d.blocks.Forget(index)
	}
	return nil
}

// batchPieces is how many reads are begun before the time is looked at again.
const batchPieces = 1024

// chunk makes room for what of a chunk must be read.
func (h *held) chunk(d *disk, x part, since *track.Marks) (pieces []source.Piece, err error) {
	blocks := h.disks[d].blocks
	off, length := d.layout.Extent(x.index)
	written := markedBlocks(since, off, length)
	from, to := 0, 0 // neighbours that are not held yet, in bytes of the chunk
	flush := func() {
		if from == to || err != nil {
			return
		}
		p := h.room.take(to - from)
		if p == nil {
			err = fmt.Errorf("%w: there is room for %d MiB", errTooMuch, frozenBytes>>20)
			return
		}
		pieces = append(pieces, source.Piece{Off: off + int64(from), P: p})
		for at := 0; at < len(p); at += chunker.BlockSize {
			blocks[(off+int64(from+at))/chunker.BlockSize] = p[at:min(at+chunker.BlockSize, len(p))]
		}
	}
	x.each(d.layout.ChunkSize, func(start, stop int) {
		switch p := blocks[(off+int64(start))/chunker.BlockSize]; {
		case p == nil && start == to && from < to:
			to = stop
		case p == nil:
			flush()
			from, to = start, stop
		case written.Get(start / chunker.BlockSize):
			pieces = append(pieces, source.Piece{Off: off + int64(start), P: p})
		}
	})
	flush()
	return pieces, err
}

// copy fills dst with what stands at off, in whole blocks but for the last of the disk.
func (h *held) copy(d *disk, dst []byte, off int64) error {
	for blocks := h.disks[d].blocks; len(dst) > 0; {
		b := blocks[off/chunker.BlockSize]
		if len(b) == 0 || off%chunker.BlockSize != 0 {
			return fmt.Errorf("copy what was read of %s while it was frozen: nothing was at %d", d.src.Name(), off)
		}
		n := copy(dst, b)
		dst, off = dst[n:], off+int64(n)
	}
	return nil
}
