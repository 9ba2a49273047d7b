package catalog

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// decision is what a session in state committing will make, whoever finishes it.
type decision struct {
	Restpoint Restpoint `json:"restpoint"`
	Manifest  [32]byte  `json:"manifest"` // SHA-256 of what the agent signed
	Link      [32]byte  `json:"link"`     // format.LinkHash of the restpoint's link
}

func (d *decision) committed() wire.Committed {
	return wire.Committed{Restpoint: d.Restpoint.ID, Sequence: d.Restpoint.Sequence, Time: d.Restpoint.Listed}
}

// CommitSession makes a restpoint of what a session sent. It checks the manifest's signature, that it is about this session, and
// that everything new in its trees is there (CodeMissing names some that are not). Then it decides: the countersigned object is
// stored in the transaction that moves the session to committing. From there the restpoint will be listed, by
// this call or by a later one, whatever dies. Called again with the same manifest it gives the same answer.
func (c *Catalog) CommitSession(ctx context.Context, machine, session string, manifest []byte) (wire.Committed, error) {
	if len(manifest) > wire.MaxManifest {
		return wire.Committed{}, wire.NewProblem(413, wire.CodeTooLarge, "manifest of %d bytes, at most %d", len(manifest), wire.MaxManifest)
	}
	unlock, err := c.commits.lock(ctx, session)
	if err != nil {
		return wire.Committed{}, err
	}
	defer unlock()
	s, m, parent, err := c.commitState(ctx, machine, session)
	if err != nil {
		return wire.Committed{}, err
	}
	hash := sha256.Sum256(manifest)
	if s.State == SessionOpen {
		release, alive := c.sessions.hold(session) // the walk may take long
		defer release()
		if !alive {
			return wire.Committed{}, fenced("session %s was not renewed in time", session)
		}
		if err := c.decide(ctx, &s, &m, parent, manifest); err != nil {
			return wire.Committed{}, err
		}
		if s, _, _, err = c.commitState(ctx, machine, session); err != nil {
			return wire.Committed{}, err
		}
	}
	if s.Decided == nil || s.Decided.Manifest != hash {
		return wire.Committed{}, conflict("session %s was committed with another manifest", session)
	}
	if err := c.finishCommit(ctx, session); err != nil {
		return wire.Committed{}, err
	}
	return s.Decided.committed(), nil
}

// commitState returns a session that is open, committing or done, with its machine and the parent that it holds.
func (c *Catalog) commitState(ctx context.Context, machine, session string) (s Session, m Machine, parent *Restpoint, err error) {
	err = c.db.View(ctx, func(r store.Reader) error {
		if m, err = getMachine(r, machine); err != nil {
			return err
		}
		if s, err = getSession(r, machine, session); err != nil {
			return err
		}
		if s.State == SessionCommitting || s.State == SessionDone {
			return nil
		}
		if s, err = c.openSession(r, machine, session); err != nil || s.Parent == "" {
			return err
		}
		p, err := restpoints.get(r, []byte(s.Parent))
		parent = &p
		if err != nil {
			return fmt.Errorf("read parent of session %s: %w", session, err)
		}
		return nil
	})
	return s, m, parent, err
}

// decide checks everything and moves an open session to committing.
func (c *Catalog) decide(ctx context.Context, s *Session, m *Machine, parent *Restpoint, manifest []byte) error {
	keys, err := c.keys.Keys(ctx, s.Project)
	if err != nil {
		return err
	}
	p, err := format.OpenRestpoint(keys, ed25519.PublicKey(m.SigningKey), manifest)
	switch {
	case errors.Is(err, format.ErrSignature):
		return wire.NewProblem(403, wire.CodeForbidden, "manifest: %v", err)
	case errors.Is(err, format.ErrVersion):
		return wire.NewProblem(422, wire.CodeNewerVersion, "manifest: %v", err).WithNext("upgrade the master")
	case err != nil:
		return badRequest("manifest: %v", err)
	}
	if err := matchSession(p, s); err != nil {
		return err
	}
	number, damage, err := c.checkStart(ctx, s.Project)
	if err != nil {
		return err
	}
	nodes, err := c.NodeReader(ctx, s.Project, s.Machine)
	if err != nil {
		return err
	}
	k := &checker{c: c, session: s, number: number, nodes: nodes, batch: make([]wanted, 0, checkBatch)}
	if err := k.check(ctx, p, parent); err != nil {
		return err
	}
	return c.db.Update(ctx, func(w store.Writer) error {
		s, err := c.openSession(w, s.Machine, s.ID)
		if err != nil {
			return err
		}
		if now, err := getUint(w, tableMeta, metaDamage); err != nil || now != damage {
			return errors.Join(err, wire.NewProblem(503, wire.CodeUnavailable, "damage was found in staging meanwhile").WithNext("commit again"))
		}
		m, err := getMachine(w, s.Machine)
		if err != nil {
			return err
		}
		link := format.ChainLink{
			Machine: m.ID, Sequence: m.Sequence + 1, Previous: m.LastLink, Manifest: sha256.Sum256(manifest), Time: c.clock.Now(),
		}
		object, err := format.Countersign(c.masterKey, manifest, link)
		if err != nil {
			return err
		}
		row := listedRow(p, link, int64(len(object)))
		row.Instant = s.instant(row.Created, row.Listed)
		s.State = SessionCommitting
		s.Decided = &decision{Restpoint: row, Manifest: link.Manifest, Link: format.LinkHash(link)}
		if err := w.Put(tableObjects, []byte(row.ID), object); err != nil {
			return err
		}
		return sessions.put(w, []byte(s.ID), s)
	})
}

// checkStart reads what must not change while a manifest is checked.
func (c *Catalog) checkStart(ctx context.Context, project string) (number uint32, damage uint64, err error) {
	err = c.db.View(ctx, func(r store.Reader) error {
		p, err := getProject(r, project)
		if err != nil {
			return err
		}
		number = p.Number
		damage, err = getUint(r, tableMeta, metaDamage)
		return err
	})
	return number, damage, err
}

// matchSession checks that a manifest is about the session: its ids, and the disks as they were when it was opened.
func matchSession(p *format.Restpoint, s *Session) error {
	if p.ID != s.Restpoint || p.Machine != s.Machine || p.Project != s.Project || p.Parent != s.Parent {
		return badRequest("manifest is of restpoint %s of machine %s with parent %q, session %s makes restpoint %s of machine %s with parent %q",
			p.ID, p.Machine, p.Parent, s.ID, s.Restpoint, s.Machine, s.Parent)
	}
	if len(p.Disks) != len(s.Disks) {
		return badRequest("manifest has %d disks, the session %d", len(p.Disks), len(s.Disks))
	}
	want := make(map[string]*wire.SessionDisk, len(s.Disks))
	for i := range s.Disks {
		want[s.Disks[i].ID] = &s.Disks[i]
	}
	for i := range p.Disks {
		d := &p.Disks[i]
		w := want[d.ID]
		delete(want, d.ID)
		if w == nil {
			return badRequest("disk %.64q is not in the session, or twice in the manifest", d.ID)
		}
		if w.Size != d.Size || w.ChunkSize != d.ChunkSize {
			return badRequest("disk %.64q has %d bytes in chunks of %d, the session says %d in chunks of %d", d.ID, d.Size, d.ChunkSize, w.Size, w.ChunkSize)
		}
	}
	return nil
}

func listedRow(p *format.Restpoint, link format.ChainLink, size int64) Restpoint {
	return Restpoint{
		ID: p.ID, Project: p.Project, Machine: p.Machine, Sequence: link.Sequence, Created: p.Created, Listed: link.Time,
		Parent: p.Parent, Consistency: string(p.Consistency), Disks: p.Disks, State: RestpointListed, ObjectSize: size,
		Stats: wire.Progress{
			Total: p.Stats.Total, Done: p.Stats.Total, Zero: p.Stats.Zero, Same: p.Stats.Same, Known: p.Stats.Known,
			Sent: p.Stats.Sent, Stored: p.Stats.Stored, Packs: p.Stats.Packs,
		},
	}
}
