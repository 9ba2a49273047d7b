package catalog

import (
	"context"
	"errors"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// minPack is less than the smallest pack that holds anything, in bytes.
const minPack = 32

// Announce gives a session the right to put packs: one URL for each, good for one object of that size and checksum. The rows
// are durable before any URL is made, so nothing is in the bucket that the master has not heard of. A pack id is good
// for one content for ever: announced again, it must have the same size and checksum.
func (c *Catalog) Announce(ctx context.Context, machine, session string, announced []wire.PackAnnounce) ([]wire.PackUpload, error) {
	if len(announced) > wire.MaxAnnounce {
		return nil, badRequest("%d packs in one announcement, at most %d", len(announced), wire.MaxAnnounce)
	}
	packs := make([]*Pack, len(announced))
	for i, a := range announced {
		id, err := format.ParsePackID(a.ID)
		if err != nil || len(a.CRC32C) != len(staging.CRC32C{}) {
			return nil, badRequest("announcement %d: pack id %.80q or checksum of %d bytes is malformed", i, a.ID, len(a.CRC32C))
		}
		if a.Size < minPack || a.Size > format.MaxPack {
			return nil, wire.NewProblem(413, wire.CodeTooLarge, "pack %s of %d bytes, want %d to %d", a.ID, a.Size, minPack, format.MaxPack)
		}
		packs[i] = &Pack{ID: id, Size: a.Size, CRC32C: staging.CRC32C(a.CRC32C)}
	}
	live := make([]bool, len(packs))
	err := c.db.Update(ctx, func(w store.Writer) error {
		s, err := c.openSession(w, machine, session)
		if err != nil {
			return err
		}
		epoch, err := getUint(w, tableMeta, metaEpoch)
		if err != nil {
			return err
		}
		for i, p := range packs {
			if live[i], err = c.announce(w, &s, *p, epoch); err != nil {
				return err
			}
		}
		if s.Outstanding > c.opt.MaxOutstanding {
			return wire.NewProblem(429, wire.CodeFull, "session %s has announced more than %d packs that it did not commit", session, c.opt.MaxOutstanding).
				WithNext("commit some first")
		}
		return sessions.put(w, []byte(s.ID), s)
	})
	if err != nil {
		return nil, err
	}
	if !c.sessions.renew(session) {
		return nil, fenced("session %s was not renewed in time", session)
	}
	uploads := make([]wire.PackUpload, len(packs))
	for i, p := range packs {
		uploads[i] = wire.PackUpload{ID: p.ID.String(), Exists: live[i]}
		if live[i] {
			continue
		}
		signed, err := c.bucket.SignPut(ctx, p.ID.Name(), staging.SignPut{Size: p.Size, CRC32C: p.CRC32C, Valid: c.opt.URLValid})
		if err != nil {
			return nil, stagingProblem("sign upload", err)
		}
		uploads[i].URL, uploads[i].Header = signed.URL, signed.Header
	}
	return uploads, nil
}

// announce writes the row of one pack and pins it. It reports whether the pack is committed already.
func (c *Catalog) announce(w store.Writer, s *Session, p Pack, epoch uint64) (live bool, err error) {
	now := c.clock.Now()
	was, err := packByID(w, p.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if p.Seq, err = nextUint(w, metaPackSeq); err != nil {
			return false, err
		}
		if err := putUint(w, tablePackIDs, p.ID[:], p.Seq); err != nil {
			return false, err
		}
		p.Project, p.Machine, p.State, p.Changed = s.Project, s.Machine, PackAnnounced, now
		s.Outstanding++
	case err != nil:
		return false, err
	case was.Machine != s.Machine || was.Project != s.Project || was.Size != p.Size || was.CRC32C != p.CRC32C:
		return false, conflict("pack %s was announced before with another content", p.ID).WithNext("send the content in a new pack")
	case was.State == PackLive:
		return true, pin(w, s.ID, was, epoch)
	case was.State != PackAnnounced:
		return false, conflict("pack %s is %s", p.ID, was.State).WithNext("send the content in a new pack")
	default:
		if was.Session != s.ID {
			s.Outstanding++ // an earlier session left it behind
		}
		p = *was
	}
	p.Session, p.Epoch, p.URLUntil = s.ID, epoch, now.Add(c.opt.URLValid)
	if err := w.Put(tablePins, appendPinKey(nil, s.ID, p.Seq), nil); err != nil {
		return false, err
	}
	return false, putPack(w, &p)
}
