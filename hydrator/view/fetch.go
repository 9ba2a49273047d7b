package view

import (
	"context"
	"fmt"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// fetch has entries filled in the background. Each is finished, whatever happens.
func (v *View) fetch(fresh []*entry) {
	if len(fresh) == 0 {
		return
	}
	if !v.start(func() { v.fill(fresh) }) {
		for _, e := range fresh {
			v.cache.finish(e, ErrClosed)
		}
	}
}

// fill fetches entries, with as few requests as the reader can make of them.
func (v *View) fill(fresh []*entry) {
	var wants []reader.Want
	left := map[int64]*entry{} // by place in fresh; guarded by mu once Read runs
	for i, e := range fresh {
		if err := v.bad.get(e.id); err != nil {
			v.cache.finish(e, err)
			continue
		}
		if v.spilled(e) {
			v.cache.finish(e, nil)
			continue
		}
		left[int64(i)] = e
		wants = append(wants, reader.Want{ID: e.id, Kind: format.KindChunk, Raw: e.size, Index: int64(i)})
	}
	if len(wants) == 0 {
		return
	}
	var mu sync.Mutex
	done := func(w reader.Want) *entry {
		mu.Lock()
		defer mu.Unlock()
		e := left[w.Index]
		delete(left, w.Index)
		return e
	}
	err := v.r.Read(v.ctx, func(context.Context) ([]reader.Want, error) {
		n := min(len(wants), wire.MaxOffer)
		batch := wants[:n]
		wants = wants[n:]
		return batch, nil
	}, reader.Sink{
		Deliver: func(w reader.Want, content []byte) error {
			if e := done(w); e != nil {
				e.data = append(e.data, content...)
				v.cache.finish(e, nil)
				if v.spill != nil {
					v.spill.write(w.ID, content)
				}
			}
			return nil
		},
		Damaged: func(w reader.Want, err error) error {
			if e := done(w); e != nil {
				err = fmt.Errorf("staging has no usable copy of chunk %d (%s): %w", e.index, e.id, err)
				v.log.Error("cannot read a chunk", "disk", e.disk.Number(), "offset", e.index*int64(e.disk.layout.ChunkSize), "bytes", e.size, "err", err)
				v.bad.add(e.id, err)
				v.cache.finish(e, err)
			}
			return nil
		},
	})
	if len(left) > 0 {
		if err == nil {
			err = fmt.Errorf("%d chunks were neither delivered nor reported", len(left))
		}
		if v.ctx.Err() == nil {
			v.log.Error("cannot read from staging", "chunks", len(left), "err", err)
		}
		for _, e := range left {
			v.cache.finish(e, err)
		}
	}
}

// spilled fills an entry from the disk cache. What comes from there is checked as if it came from the bucket.
func (v *View) spilled(e *entry) bool {
	if v.spill == nil {
		return false
	}
	b := e.data[:e.size]
	if !v.spill.read(e.id, b) || v.id(b) != e.id {
		return false
	}
	e.data = b
	return true
}

func (v *View) id(content []byte) chunker.ID {
	h := v.hashers.Get().(*chunker.Hasher)
	defer v.hashers.Put(h)
	return h.ID(content)
}
