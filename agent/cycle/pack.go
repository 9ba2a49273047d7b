package cycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// item is a chunk on its way into a pack, or a node, which is there already.
type item struct {
	span  *span // that has the content, until it is compressed
	chunk int
	id    chunker.ID
	raw   int
	data  []byte // in buf
	codec chunker.Codec
	base  chunker.ID // of a patch
	depth uint8      // of a patch
	sent  int        // bytes of blocks of a patch
	err   error      // of encoding it
	buf   []byte
	node  []byte
	ready chan struct{} // one token when a worker is done
	pool  *pool[*item]

	drained *waiter // not an item, but somebody who waits for those before it
}

// drop gives an item back that nobody waits for.
func (p *pipeline) drop(it *item) {
	if it != nil {
		<-it.ready
		it.pool.put(it)
	}
}

// offer asks the master which ids it knows.
func (p *pipeline) offer(ids []chunker.ID) (known []byte, err error) {
	err = wire.Retry(p.ctx, 0, func() error {
		known, err = p.conf.Master.Offer(p.ctx, p.session.ID, ids)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("offer chunks: %w", err)
	}
	return known, nil
}

// maxSent bounds the memory of what this cycle has sent, in ids.
const maxSent = 1 << 17

// resolve takes answers to offers in order and passes on what must be sent.
func (p *pipeline) resolve() error {
	defer close(p.packQ)
	defer close(p.compQ)
	sent := make(map[chunker.ID]struct{})
	for {
		b, ok := receive(p.ctx, p.offers)
		if !ok {
			return p.ctx.Err()
		}
		if err, ok := receive(p.ctx, b.done); err != nil || !ok {
			return errors.Join(err, p.ctx.Err())
		}
		known := 0
		for i, o := range b.items {
			_, again := sent[b.ids[i]]
			knows := o.ask >= 0 && wire.Bitmap(b.known).Get(o.ask)
			if knows {
				known++
			}
			if again || knows {
				if o.node == nil {
					p.n.known.Add(int64(o.raw))
					p.drop(o.item)
				}
				if o.span != nil {
					o.span.forget(o.chunk)
					p.release(o.span)
				}
				continue
			}
			if len(sent) >= maxSent {
				clear(sent)
			}
			sent[b.ids[i]] = struct{}{}
			if err := p.dispatch(b.ids[i], o); err != nil {
				return err
			}
		}
		if len(b.ask) > 0 {
			p.eager.Store(known*eagerShare < len(b.ask))
		}
		if b.drained != nil && !send(p.ctx, p.packQ, &item{drained: b.drained}) {
			return p.ctx.Err()
		}
	}
}

// eagerShare: chunks are compressed before they are offered while less than one of so many is known to the master.
const eagerShare = 8

// dispatch passes one item on to the packer, in order, by way of a worker if it is not compressed yet.
func (p *pipeline) dispatch(id chunker.ID, o offered) error {
	it := o.item
	if it == nil {
		var err error
		if it, err = p.buf.late.get(p.ctx); err != nil {
			return err
		}
		it.id, it.span, it.chunk, it.node, it.raw, it.pool = id, o.span, o.chunk, o.node, o.raw, p.buf.late
		it.base, it.depth, it.sent, it.err = chunker.ID{}, 0, 0, nil
		if o.span == nil {
			it.ready <- struct{}{}
		} else if !send(p.ctx, p.compQ, it) {
			return p.ctx.Err()
		}
	}
	if !send(p.ctx, p.packQ, it) {
		return p.ctx.Err()
	}
	return nil
}

// fullPack is a pack that is ready to go.
type fullPack struct {
	object  []byte
	id      format.PackID
	entries []byte
	sum     staging.CRC32C
}

// nodeBytes is how many bytes of nodes wait for a place before they get a pack of their own.
const nodeBytes = 4 << 20

// packer fills packs. Chunks come in order; nodes wait, so that they lie together, at the end of the last pack if they fit.
type packer struct {
	p     *pipeline
	w     *format.PackWriter
	in    map[chunker.ID]bool // ids of the pack
	buf   []byte
	nodes []*node
	size  int
}

type node struct {
	id  chunker.ID
	enc []byte
}

// pack seals items into packs.
func (p *pipeline) pack() error {
	defer close(p.upload)
	k := &packer{p: p, in: make(map[chunker.ID]bool)}
	for {
		it, ok := receive(p.ctx, p.packQ)
		if !ok {
			break
		}
		if it.drained != nil {
			if it.drained.ship {
				if err := k.settle(); err != nil {
					return err
				}
			}
			close(it.drained.done)
			continue
		}
		if _, ok := receive(p.ctx, it.ready); !ok {
			return p.ctx.Err()
		}
		if it.err != nil {
			return it.err
		}
		if err := k.take(it); err != nil {
			return err
		}
		it.data, it.node = nil, nil
		it.pool.put(it)
	}
	if p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	return k.finish()
}

func (k *packer) take(it *item) error {
	if it.node == nil {
		if err := k.append(format.Entry{Kind: format.KindChunk, ID: it.id, Codec: it.codec, Raw: uint32(it.raw), Base: it.base, Depth: it.depth}, it.data); err != nil {
			return err
		}
		if it.codec == chunker.Patch {
			k.p.n.sent.Add(int64(it.sent))
		} else {
			k.p.n.sent.Add(int64(it.raw))
		}
		k.p.n.chunks.Add(1)
		return nil
	}
	k.nodes = append(k.nodes, &node{it.id, it.node})
	k.size += len(it.node)
	if k.size < nodeBytes {
		return nil
	}
	return k.placeNodes()
}

func (k *packer) placeNodes() error {
	for _, n := range k.nodes {
		if err := k.append(format.Entry{Kind: format.KindNode, ID: n.id, Codec: chunker.Raw, Raw: uint32(len(n.enc))}, n.enc); err != nil {
			return err
		}
	}
	k.nodes, k.size = k.nodes[:0], 0
	return nil
}

// append puts an entry into the pack, or into a new one when it is full. A pack has an id once: resolve forgets some that were sent.
func (k *packer) append(e format.Entry, data []byte) error {
	if k.w != nil && k.in[e.ID] {
		return nil
	}
	if k.w != nil && !k.w.Room(len(data)+chunker.IDSize) { // a patch's base takes room, too
		if err := k.ship(); err != nil {
			return err
		}
	}
	if k.w == nil {
		buf, err := k.p.conf.Buffers.packs.get(k.p.ctx)
		if err != nil {
			return err
		}
		k.buf = buf
		if k.w, err = format.NewPackWriter(k.p.conf.Keys, buf); err != nil {
			return err
		}
		clear(k.in)
	}
	k.in[e.ID] = true
	if e.IsPatch() {
		return k.w.AppendPatch(e.ID, e.Base, e.Depth, int(e.Raw), data)
	}
	return k.w.Append(e.Kind, e.ID, e.Codec, int(e.Raw), data)
}

// ship hands the pack to an uploader.
func (k *packer) ship() error {
	object, entries, err := k.w.Finish()
	if err != nil {
		return err
	}
	full := fullPack{object: object, id: k.w.ID(), entries: format.MarshalEntries(entries)}
	k.w = nil
	k.p.onWay.Add(1)
	if !send(k.p.ctx, k.p.upload, full) {
		k.p.onWay.Done()
		return k.p.ctx.Err()
	}
	return nil
}

// settle sends off what there is and waits until all packs are committed: then chunks in them can be what patches are made of.
func (k *packer) settle() error {
	if k.w != nil {
		if err := k.ship(); err != nil {
			return err
		}
	}
	k.p.onWay.Wait()
	if k.p.unsent.Load() {
		<-k.p.ctx.Done() // the uploader's error ends it
		return k.p.ctx.Err()
	}
	for _, d := range k.p.disks {
		if d.blocks != nil {
			d.blocks.Settle()
		}
	}
	return nil
}

func (k *packer) finish() error {
	if err := k.placeNodes(); err != nil {
		return err
	}
	if k.w == nil {
		return nil
	}
	return k.ship()
}

// uploadPacks sends packs and commits them.
func (p *pipeline) uploadPacks() error {
	for {
		full, ok := receive(p.ctx, p.upload)
		if !ok {
			return p.ctx.Err()
		}
		full.sum = staging.Checksum(full.object)
		err := p.put(&full)
		p.unsent.CompareAndSwap(false, err != nil)
		p.onWay.Done()
		if err != nil {
			return fmt.Errorf("send pack %s: %w", full.id, err)
		}
		p.n.stored.Add(int64(len(full.object)))
		p.n.packs.Add(1)
		p.conf.Buffers.packs.put(full.object[:0])
	}
}

// putFor is how long one pack is tried before the cycle gives up.
const putFor = 10 * time.Minute

// put sends one pack until it is committed. The same bytes go again under the same id; a URL that ran out is asked for anew.
func (p *pipeline) put(full *fullPack) error {
	return retryPut(p.ctx, putFor, func() error {
		up, err := p.conf.Master.Announce(p.ctx, p.session.ID, []wire.PackAnnounce{{ID: full.id.String(), Size: int64(len(full.object)), CRC32C: full.sum[:]}})
		if err != nil {
			return err
		}
		if !up[0].Exists {
			err := p.conf.Staging.Put(p.ctx, staging.SignedRequest{URL: up[0].URL, Header: up[0].Header}, full.object, p.conf.Limit)
			if err != nil && !errors.Is(err, staging.ErrExists) { // exists: an earlier try arrived, its answer did not
				return err
			}
		}
		return p.conf.Master.CommitPack(p.ctx, p.session.ID, full.id, full.entries)
	})
}

func retryPut(ctx context.Context, limit time.Duration, f func() error) error {
	deadline := time.Now().Add(limit)
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 15*time.Second) {
		err := f()
		passing := errors.Is(err, staging.ErrTemporary) || errors.Is(err, staging.ErrChecksum) || errors.Is(err, staging.ErrDenied) || wire.Passing(err)
		if err == nil || !passing || time.Now().Add(wait).After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
