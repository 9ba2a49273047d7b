package hydrator

import (
	"sync"

	"github.com/openmigrate/openmigrate/wire"
)

// tracker knows up to where everything is written, although chunks are written out of order: batches are planned in
// ascending order, and the low-water mark is the end of the last one before which all are done.
type tracker struct {
	mu      sync.Mutex
	open    []openBatch // in order; guarded by mu, as is all below
	base    int         // number of open[0]
	low     int64       // chunks: all before are written
	stuck   int64       // low may not pass this: the first damaged chunk
	pending int64       // bytes delivered of open batches
	result  wire.JobResult
}

type openBatch struct {
	end   int64 // chunks
	left  int
	bytes int64 // delivered
}

func newTracker(from int64) *tracker { return &tracker{low: from, stuck: 1 << 62} }

// begin opens a batch of wants that ends before chunk end; its number is the one of the calls so far.
func (t *tracker) begin(wants int, end int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = append(t.open, openBatch{end: end, left: wants})
	t.settle()
}

// done counts one want of a batch.
func (t *tracker) done(batch int, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Chunks++
	t.result.Bytes += int64(bytes)
	b := &t.open[batch-t.base]
	b.left--
	b.bytes += int64(bytes)
	t.pending += int64(bytes)
	t.settle()
}

func (t *tracker) written(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Written += n
}

// damaged counts content that is not there, from chunk first on. batch is where it was wanted, -1 for a whole subtree.
func (t *tracker) damaged(batch int, first int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Damaged++
	t.stuck = min(t.stuck, first)
	if batch >= 0 {
		t.open[batch-t.base].left--
	}
	t.settle()
}

// settle moves the low-water mark. The caller holds mu.
func (t *tracker) settle() {
	for len(t.open) > 0 && t.open[0].left == 0 {
		t.low = t.open[0].end
		t.pending -= t.open[0].bytes
		t.open = t.open[1:]
		t.base++
	}
}

// mark is the number of chunks, from the first, that are all written.
func (t *tracker) mark() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(t.low, t.stuck)
}

// totals is what was done so far; at is how many bytes of a disk with that chunk size are gone through.
func (t *tracker) totals(chunkSize int) (res wire.JobResult, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.result, t.low*int64(chunkSize) + t.pending
}
