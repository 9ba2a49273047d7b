package hydrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/staging/format"
)

// planned is a block with the chunks that it consists of. Where a chunk holds several blocks it is one of these for all of them.
type planned struct {
	first, end int64 // blocks
	ids        []chunker.ID
	known      []bool // the others are as they were
}

// batch is the next wants; none at the end. The memory of their blocks is reserved, so that no delivery ever waits for it.
func (p *blockPlan) batch(ctx context.Context) ([]reader.Want, error) {
	for {
		blocks, more, err := p.gather()
		if err == nil {
			err = p.complete(ctx, blocks)
		}
		if err != nil {
			return nil, err
		}
		var wants []reader.Want
		for i := range blocks {
			if wants, err = p.reserve(ctx, &blocks[i], wants); err != nil {
				return nil, err
			}
		}
		if len(wants) > 0 || !more {
			return wants, nil
		}
	}
}

// gather takes changes until they touch enough blocks.
func (p *blockPlan) gather() (out []planned, more bool, err error) {
	count := int64(0)
	for {
		ch := p.held
		if p.held = nil; ch == nil {
			c, err, ok := p.next()
			if err = errors.Join(err, p.broken); err != nil || !ok {
				return out, false, err
			}
			if c.count != 1 {
				return nil, false, fmt.Errorf("read blocks: a run of %d chunks where one was to come", c.count)
			}
			ch = &c
		}
		first, end := p.span(*ch)
		first = max(first, p.b.From)
		if n := len(out); n > 0 && out[n-1].first == first && p.perBlock > 1 {
			out[n-1].set(int(ch.index%int64(p.perBlock)), ch.id)
			continue
		}
		if count += end - first; count > int64(p.limit) {
			p.held = ch
			return out, true, nil
		}
		b := planned{first: first, end: end, ids: make([]chunker.ID, p.perBlock), known: make([]bool, p.perBlock)}
		b.set(int(ch.index%int64(p.perBlock)), ch.id)
		out = append(out, b)
	}
}

func (b *planned) set(i int, id chunker.ID) { b.ids[i], b.known[i] = id, true }

// complete finds the ids of the chunks that did not change in blocks of which others did.
func (p *blockPlan) complete(ctx context.Context, blocks []planned) error {
	if p.b.Old == nil || p.perBlock == 1 || len(blocks) == 0 {
		return nil // what is not known is zeros
	}
	// in finds the first block that ends behind a chunk.
	in := func(chunk int64) int {
		i, _ := slices.BinarySearchFunc(blocks, chunk/int64(p.perBlock), func(b planned, at int64) int { return cmp.Compare(b.first, at) })
		return i
	}
	return format.Walk(ctx, p.r, p.disk.Root, p.disk.Tree().Chunks, func(level int, index int64, _ chunker.ID) (bool, error) {
		first, end := p.changes.span(level, index)
		i := in(first)
		return i < len(blocks) && blocks[i].first*int64(p.perBlock) < end, nil
	}, func(index int64, id chunker.ID) error {
		i := in(index)
		if i < len(blocks) && blocks[i].first == index/int64(p.perBlock) {
			blocks[i].set(int(index%int64(p.perBlock)), id)
		}
		return nil
	})
}

// reserve takes memory for a block and appends what must be fetched for it.
func (p *blockPlan) reserve(ctx context.Context, b *planned, wants []reader.Want) ([]reader.Want, error) {
	l := p.disk.Layout()
	missing := 0
	// The chunk of several blocks starts before the first of them when the others are done.
	chunk := b.first * int64(p.b.Size) / int64(p.disk.ChunkSize)
	for i, id := range b.ids {
		if id.IsZero() {
			continue
		}
		missing++
		_, n := l.Extent(chunk + int64(i))
		wants = append(wants, reader.Want{ID: id, Kind: format.KindChunk, Raw: n, Index: chunk + int64(i)})
	}
	for at := b.first; at < b.end; at++ {
		data, full, err := p.sink.Reserve(ctx, at)
		if err != nil {
			return nil, err
		}
		if missing == 0 {
			full()
			continue
		}
		p.mu.Lock()
		p.place[at] = &blockInWork{data: data, full: full, missing: missing}
		p.mu.Unlock()
	}
	return wants, nil
}

// deliver copies a chunk to where it belongs.
func (p *blockPlan) deliver(w reader.Want, content []byte) error {
	off := w.Index * int64(p.disk.ChunkSize)
	for at := off / int64(p.b.Size); len(content) > 0; at++ {
		skip := int(off - at*int64(p.b.Size))
		n := min(len(content), p.b.Size-skip)
		p.mu.Lock()
		b := p.place[at]
		p.mu.Unlock()
		if b != nil { // else it is one of before From
			copy(b.data[skip:], content[:n])
			p.mu.Lock()
			if b.missing--; b.missing == 0 {
				delete(p.place, at)
			}
			last := b.missing == 0
			p.mu.Unlock()
			if last {
				b.full()
			}
		}
		off, content = off+int64(n), content[n:]
	}
	return nil
}
