package hydrator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// prove opens each pack of a job whole and checks that it is what its writer said: its size, its footer, and every entry
// against its id. Only after that may other machines use it. Damage is reported for the pack or the entry, and the rest
// goes on.
func prove(ctx context.Context, r *reader.Reader, c JobClient, job *wire.Job, show func(wire.Progress)) (wire.JobResult, error) {
	p := wire.Progress{Phase: "proving"}
	for _, pack := range job.Packs {
		if pack.Size <= 0 || pack.Size > format.MaxPack {
			return wire.JobResult{}, fmt.Errorf("prove pack %.80s: %w: %d bytes", pack.ID, format.ErrCorrupt, pack.Size)
		}
		p.Total += pack.Size
	}
	opener, err := format.NewOpener(r.Keys())
	if err != nil {
		return wire.JobResult{}, err
	}
	pr := prover{r: r, o: opener}
	for _, pack := range job.Packs {
		found, err := pr.pack(ctx, pack)
		if err != nil {
			return pr.res, err
		}
		for len(found) > 0 {
			n := min(len(found), wire.MaxDamage)
			if err := c.Quarantine(ctx, job.ID, found[:n]); err != nil {
				return pr.res, fmt.Errorf("report damaged pack %s: %w", pack.ID, err)
			}
			found = found[n:]
		}
		p.Done += pack.Size
		p.Packs++
		show(p)
	}
	pr.res.Fetched = r.Fetched()
	if pr.res.Damaged > 0 {
		return pr.res, fmt.Errorf("%w: %s", ErrDamaged, pr.first)
	}
	return pr.res, nil
}

// prover goes through packs with one buffer.
type prover struct {
	r     *reader.Reader
	o     *format.Opener
	buf   []byte
	plain []byte
	res   wire.JobResult
	first string // what is wrong with the first that is
}

// pack returns what is damaged in one pack; an error only when it could not be read.
func (p *prover) pack(ctx context.Context, want wire.JobPack) ([]wire.Damage, error) {
	id, err := format.ParsePackID(want.ID)
	if err != nil {
		return nil, fmt.Errorf("prove: %w", err)
	}
	damaged := func(entry string, cause error) wire.Damage {
		if p.res.Damaged++; p.first == "" {
			p.first = fmt.Sprintf("pack %s: %v", want.ID, cause)
		}
		return wire.Damage{Pack: want.ID, ID: entry, Reason: cut(cause.Error())}
	}
	if p.buf, err = p.r.Pack(ctx, id, want.Size, p.buf); err != nil {
		if !reader.IsDamage(err) {
			return nil, err
		}
		return []wire.Damage{damaged("", err)}, nil
	}
	has, entries, err := format.ReadFooter(p.r.Keys(), bytes.NewReader(p.buf), want.Size)
	if err == nil && has != id {
		err = fmt.Errorf("%w: it says that it is pack %s", format.ErrCorrupt, has)
	}
	if errors.Is(err, format.ErrVersion) {
		return nil, fmt.Errorf("prove pack %s: %w", want.ID, err) // a node that is upgraded can
	}
	if sum := sha256.Sum256(format.MarshalEntries(entries)); err == nil && len(want.Contents) > 0 && !bytes.Equal(sum[:], want.Contents) {
		err = fmt.Errorf("%w: its entries are not those that were committed", format.ErrCorrupt)
	}
	if err != nil {
		return []wire.Damage{damaged("", err)}, nil
	}
	var found []wire.Damage
	var patches []format.Entry
	for _, e := range entries {
		if ctx.Err() != nil {
			return found, context.Cause(ctx)
		}
		if e.IsPatch() {
			patches = append(patches, e)
			continue
		}
		out, err := p.o.OpenVerified(id, e, p.buf[e.Offset:e.Offset+e.Stored], p.plain)
		if err == nil && e.Kind == format.KindNode {
			err = format.DecodeNode(out, new(format.Node))
		}
		switch {
		case err == nil:
			p.plain = out
			p.res.Chunks++
			p.res.Bytes += int64(e.Raw)
		case errors.Is(err, context.Canceled):
			return found, err
		default:
			found = append(found, damaged(e.ID.String(), err))
		}
	}
	err = p.patches(ctx, id, patches, func(e *format.Entry, cause error) {
		found = append(found, damaged(e.ID.String(), cause))
	})
	return found, err
}

// patches opens the patches of the pack that is in the buffer, over their bases, wherever those are stored. bad is told of each that can
// not be opened, by one goroutine at a time.
func (p *prover) patches(ctx context.Context, pack format.PackID, patches []format.Entry, bad func(e *format.Entry, cause error)) error {
	if len(patches) == 0 {
		return nil
	}
	var mu sync.Mutex // guards p and what bad changes
	next := 0
	return p.r.Read(ctx, func(context.Context) ([]reader.Want, error) {
		var wants []reader.Want
		for ; next < len(patches) && len(wants) < wire.MaxOffer; next++ {
			e := &patches[next]
			wants = append(wants, reader.Want{ID: e.Base, Kind: format.KindChunk, Raw: int(e.Raw), Less: e.Depth, Index: int64(next)})
		}
		return wants, nil
	}, reader.Sink{
		Deliver: func(w reader.Want, base []byte) error {
			mu.Lock()
			defer mu.Unlock()
			e := &patches[w.Index]
			out, err := p.o.OpenPatch(pack, *e, p.buf[e.Offset:e.Offset+e.Stored], base, p.plain)
			if err != nil {
				bad(e, err)
				return nil
			}
			p.plain = out
			p.res.Chunks++
			p.res.Bytes += int64(e.Raw)
			return nil
		},
		Damaged: func(w reader.Want, err error) error {
			mu.Lock()
			defer mu.Unlock()
			bad(&patches[w.Index], fmt.Errorf("base %s: %w", w.ID, err))
			return nil
		},
	})
}
