package hydrator

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// BlockSink takes a disk in blocks of one size, as snapshots are written at a cloud (providers/aws/ebsdirect.Sink).
type BlockSink interface {
	// Reserve lends zeroed memory for a block; index ascends. It waits while all is lent. full hands the block over, from any goroutine.
	Reserve(ctx context.Context, index int64) (data []byte, full func(), err error)
	// Buffers is how many blocks can be lent at once.
	Buffers() int
}

// BlockRange says which blocks of a disk are wanted.
type BlockRange struct {
	Size int   // bytes of a block: a power of two of at least 64 KiB
	From int64 // the first block
	// Old is what the reader of the blocks has already. nil: zeros everywhere. It must be in chunks of the same size.
	Old *journal.Content
}

// ErrOldTree: what the receiver has is not in staging any more, so only a full copy helps.
var ErrOldTree = errOldTree

// CountBlocks is how many blocks Blocks would give, found by reading tree nodes only. Blocks that turn out to be zeros within a chunk that is not are counted.
func CountBlocks(ctx context.Context, r *reader.Reader, d *format.Disk, b BlockRange) (n int64, err error) {
	p, err := newBlockPlan(r, d, b)
	if err != nil {
		return 0, err
	}
	last := b.From - 1
	for ch, err := range p.changes.all(ctx) {
		if err = errors.Join(err, p.broken); err != nil {
			return n, err
		}
		first, end := p.span(ch)
		first = max(first, last+1)
		n += max(0, end-first)
		last = max(last, end-1)
	}
	return n, p.broken
}

// Blocks gives a sink all blocks of a disk in which a chunk is not what the receiver has, whole and verified: parts that did not
// change are fetched, too, where a block is larger than a chunk. Without Old that is all blocks that are not zeros. A chunk without a usable copy ends it:
// what was full stays so, and it can be gone on with when an agent has sent the chunk again.
func Blocks(ctx context.Context, r *reader.Reader, d *format.Disk, b BlockRange, to BlockSink) error {
	p, err := newBlockPlan(r, d, b)
	if err != nil {
		return err
	}
	perChunk := max(1, d.ChunkSize/b.Size)
	if to.Buffers() < perChunk {
		return fmt.Errorf("read blocks of disk %.80s: %d buffers for chunks of %d blocks", d.ID, to.Buffers(), perChunk)
	}
	p.sink, p.limit = to, max(perChunk, min(to.Buffers()/4, maxBatchBlocks, wire.MaxOffer/p.perBlock))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next, stop := iter.Pull2(p.changes.all(ctx))
	defer stop()
	p.next = next
	return r.Read(ctx, p.batch, reader.Sink{
		Deliver: p.deliver,
		Damaged: func(w reader.Want, cause error) error {
			return fmt.Errorf("read chunk %d (%s) of disk %.80s: %w", w.Index, w.ID, d.ID, cause)
		},
	})
}

// maxBatchBlocks bounds the blocks that are planned together.
const maxBatchBlocks = 64

// blockPlan turns changed chunks into blocks, and blocks into the chunks that they consist of. It belongs to the goroutine that plans,
// but deliver does not.
type blockPlan struct {
	r        *reader.Reader
	disk     *format.Disk
	b        BlockRange
	perBlock int // chunks of a block; 1 where a chunk holds several blocks
	changes  *changes
	broken   error // a node of the wanted tree without a usable copy

	sink  BlockSink
	limit int // blocks of a batch
	next  func() (change, error, bool)
	held  *change // taken from next and not used up

	mu    sync.Mutex
	place map[int64]*blockInWork // by index; guarded by mu
}

// blockInWork is a block that waits for its chunks.
type blockInWork struct {
	data    []byte
	full    func()
	missing int // chunks
}

func newBlockPlan(r *reader.Reader, d *format.Disk, b BlockRange) (*blockPlan, error) {
	if err := chunker.CheckSize(b.Size); err != nil {
		return nil, fmt.Errorf("read blocks of disk %.80s: %w", d.ID, err)
	}
	if err := d.Layout().Check(); err != nil {
		return nil, err
	}
	to := journal.Content{Disk: d.ID, Size: d.Size, ChunkSize: d.ChunkSize, Root: d.Root}
	old := to.Zeroed()
	if b.Old != nil {
		if old = *b.Old; old.ChunkSize != d.ChunkSize {
			return nil, fmt.Errorf("read blocks of disk %.80s: it is in chunks of %d bytes and was in chunks of %d: %w", d.ID, d.ChunkSize, old.ChunkSize, ErrOldTree)
		}
	}
	p := &blockPlan{r: r, disk: d, b: b, perBlock: max(1, b.Size/d.ChunkSize), place: map[int64]*blockInWork{}}
	p.changes = &changes{nodes: r, to: d.Tree(), unknown: d.Layout().Chunks(),
		state:   journal.State{To: &to, Over: []journal.Content{old}, Done: b.From * int64(b.Size) / int64(d.ChunkSize)},
		damaged: func(id chunker.ID, _, _ int64, cause error) { p.broken = &reader.NodeError{ID: id, Err: cause} }}
	return p, nil
}

// span is the blocks that a change touches.
func (p *blockPlan) span(ch change) (first, end int64) {
	c, s := int64(p.disk.ChunkSize), int64(p.b.Size)
	return ch.index * c / s, (min((ch.index+ch.count)*c, p.disk.Size) + s - 1) / s
}
