package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// CommitPack makes a pack that the session put into the bucket live, and its entries part of the index. entries is what
// format.MarshalEntries wrote. They are taken on trust until the pack is proven, which is why only this machine is offered
// them. The base of every patch must be in a pack that this machine may use, which is pinned; else CodeMissing. It is idempotent.
func (c *Catalog) CommitPack(ctx context.Context, machine, session string, pack format.PackID, entries []byte) error {
	list, err := format.UnmarshalEntries(entries)
	if err != nil {
		return badRequest("entries of pack %s: %v", pack, err)
	}
	var p *Pack
	err = c.db.View(ctx, func(r store.Reader) error {
		p, _, err = c.packToCommit(r, machine, session, pack)
		return err
	})
	if err != nil {
		return err
	}
	if err := checkEntries(p, list); err != nil {
		return err
	}
	release, alive := c.sessions.hold(session)
	defer release()
	if !alive {
		return fenced("session %s was not renewed in time", session)
	}
	if p.State == PackAnnounced {
		info, err := c.bucket.Stat(ctx, pack.Name())
		switch {
		case errors.Is(err, staging.ErrNotFound):
			return conflict("pack %s is not in staging", pack).WithNext("put it, then commit it again")
		case err != nil:
			return stagingProblem("look for pack "+pack.String(), err)
		case info.Size != p.Size:
			return conflict("pack %s has %d bytes in staging, %d were announced", pack, info.Size, p.Size).
				WithNext("send the content in a new pack")
		}
	}
	return c.db.Update(ctx, func(w store.Writer) error {
		p, s, err := c.packToCommit(w, machine, session, pack)
		if err != nil {
			return err
		}
		if p.State == PackLive {
			return sameContents(w, p, list, sha256.Sum256(entries))
		}
		project, err := getProject(w, p.Project)
		if err != nil {
			return err
		}
		if err := pinBases(w, project.Number, s, list); err != nil {
			return err
		}
		if err := putIndex(w, project.Number, p.Seq, list); err != nil {
			return err
		}
		now := c.clock.Now()
		p.State, p.Entries, p.Committed, p.Changed = PackLive, len(list), now, now
		p.Contents = sha256.Sum256(entries)
		if err := putPack(w, p); err != nil {
			return err
		}
		s.Outstanding = max(0, s.Outstanding-1)
		return sessions.put(w, []byte(s.ID), *s)
	})
}

// packToCommit returns a pack that this session announced, announced or live.
func (c *Catalog) packToCommit(r store.Reader, machine, session string, id format.PackID) (*Pack, *Session, error) {
	s, err := c.openSession(r, machine, session)
	if err != nil {
		return nil, nil, err
	}
	p, err := packByID(r, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && p.Machine != machine {
		return nil, nil, notFound("pack %s was not announced", id).WithNext("announce it first")
	}
	if err != nil {
		return nil, nil, err
	}
	pinned, err := exists(r, tablePins, appendPinKey(nil, session, p.Seq))
	if err != nil {
		return nil, nil, err
	}
	if !pinned {
		return nil, nil, notFound("pack %s was not announced in session %s", id, session).WithNext("announce it first")
	}
	if p.State != PackAnnounced && p.State != PackLive {
		return nil, nil, conflict("pack %s is %s", id, p.State).WithNext("send the content in a new pack")
	}
	return p, &s, nil
}

// checkEntries checks what UnmarshalEntries can not: that the entries fit into the object, and that no id is there twice.
func checkEntries(p *Pack, list []format.Entry) error {
	if len(list) == 0 {
		return badRequest("pack %s has no entries", p.ID)
	}
	last := &list[len(list)-1]
	end := int64(last.Offset) + int64(last.Stored)
	if end > p.Size {
		return badRequest("entries of pack %s end at byte %d of %d", p.ID, end, p.Size)
	}
	order := make([]*format.Entry, len(list))
	for i := range list {
		order[i] = &list[i]
	}
	slices.SortFunc(order, func(a, b *format.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	for i := 1; i < len(order); i++ {
		if order[i].ID == order[i-1].ID {
			return badRequest("pack %s has the id %s twice", p.ID, order[i].ID)
		}
	}
	return nil
}

// sameContents lets a commit that is repeated pass.
func sameContents(r store.Reader, p *Pack, list []format.Entry, contents [32]byte) error {
	if p.Contents == contents {
		return nil
	}
	if p.Contents != [32]byte{} {
		return wire.NewProblem(409, wire.CodeConflict, "pack %s was committed with other entries", p.ID)
	}
	b, err := r.Get(tablePackContents, u64(p.Seq))
	if err != nil {
		return err
	}
	same := p.Entries == len(list)
	for i := range list {
		same = same && len(b) >= 32 && bytes.Equal(b[:32], list[i].ID[:])
		if !same {
			return wire.NewProblem(409, wire.CodeConflict, "pack %s was committed with other entries", p.ID)
		}
		b = b[32:]
	}
	if !same {
		return wire.NewProblem(409, wire.CodeConflict, "pack %s was committed with other entries", p.ID)
	}
	return nil
}
