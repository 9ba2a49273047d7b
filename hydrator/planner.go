package hydrator

import (
	"context"
	"fmt"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// planner turns changes into batches of wants. Zeros need nobody: it writes them itself. It belongs to one goroutine.
type planner struct {
	a       *applier
	next    func() (change, error, bool)
	hash    *chunker.Hasher // when set, chunks that the volume holds already are left alone
	buf     []byte
	batches int
	zeros   change // a run that is not written yet
}

// maxZeros bounds a run of zeros that is written at once, in chunks, so that a cancel is heard.
const maxZeros = 4096

// batch is the next wants; none at the end.
func (p *planner) batch(ctx context.Context) ([]reader.Want, error) {
	l := p.a.to.Layout()
	for {
		wants := make([]reader.Want, 0, p.a.o.batch)
		end, more := int64(0), true
		for more && len(wants) < cap(wants) {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			var ch change
			var err error
			if ch, err, more = p.next(); err != nil {
				return nil, err
			}
			if !more {
				break
			}
			end = ch.index + ch.count
			if ch.id.IsZero() {
				if err := p.zero(ctx, ch); err != nil {
					return nil, err
				}
				continue
			}
			off, n := l.Extent(ch.index)
			if p.hash != nil {
				same, err := p.holds(ch.id, off, n)
				if err != nil {
					return nil, err
				}
				if same {
					continue
				}
			}
			wants = append(wants, reader.Want{ID: ch.id, Kind: format.KindChunk, Raw: n, Index: ch.index, Batch: p.batches})
		}
		if err := p.flush(); err != nil {
			return nil, err
		}
		if !more {
			end = l.Chunks()
		}
		p.batches++
		p.a.t.begin(len(wants), end)
		if len(wants) > 0 || !more {
			return wants, nil
		}
	}
}

// zero collects runs of zeros.
func (p *planner) zero(ctx context.Context, ch change) error {
	for ch.count > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if p.zeros.count > 0 && (p.zeros.index+p.zeros.count != ch.index || p.zeros.count >= maxZeros) {
			if err := p.flush(); err != nil {
				return err
			}
		}
		if p.zeros.count == 0 {
			p.zeros.index = ch.index
		}
		n := min(ch.count, maxZeros-p.zeros.count)
		p.zeros.count += n
		ch.index, ch.count = ch.index+n, ch.count-n
	}
	return nil
}

// flush writes the run of zeros that was collected.
func (p *planner) flush() error {
	if p.zeros.count == 0 {
		return nil
	}
	off := p.zeros.index * int64(p.a.to.ChunkSize)
	n := min(p.zeros.count*int64(p.a.to.ChunkSize), p.a.to.Size-off)
	p.zeros.count = 0
	if err := p.a.v.Zero(off, n); err != nil {
		return err
	}
	p.a.t.written(n)
	return nil
}

// holds reports whether the volume has that content there.
func (p *planner) holds(id chunker.ID, off int64, n int) (bool, error) {
	if cap(p.buf) < n {
		p.buf = make([]byte, p.a.to.ChunkSize)
	}
	if _, err := p.a.v.ReadAt(p.buf[:n], off); err != nil {
		return false, fmt.Errorf("read %s at %d: %w", p.a.v.Path(), off, err)
	}
	return p.hash.ID(p.buf[:n]) == id, nil
}

// meter tells of progress, and that there is something to make durable.
type meter struct {
	a       *applier
	notes   chan<- struct{}
	mu      sync.Mutex
	unshown int64 // bytes since the last show; guarded by mu, as is unnoted
	unnoted int64
}

const (
	showEvery = 16 << 20 // bytes written between two calls of the progress function
	noteEvery = 64 << 20 // between two looks at what can be made durable
)

func (m *meter) tick(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unnoted += int64(n)
	if m.unshown += int64(n); m.unshown >= showEvery {
		m.unshown = 0
		m.show()
	}
	if m.unnoted < min(noteEvery, m.a.o.every) {
		return
	}
	select {
	case m.notes <- struct{}{}:
		m.unnoted = 0
	default: // one is under way and another waits
	}
}

func (m *meter) show() {
	if m.a.o.progress == nil {
		return
	}
	res, at := m.a.t.totals(m.a.to.ChunkSize)
	m.a.o.progress(wire.Progress{Phase: "writing", Total: m.a.to.Size, Done: min(at, m.a.to.Size), Chunks: res.Chunks})
}
