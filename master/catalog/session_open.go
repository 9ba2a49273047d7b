package catalog

import (
	"context"
	"errors"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// OpenSession opens a session, or continues the one that req.Resume names if it is still live. A machine has one live session: an older one
// is fenced. A wish that a restpoint was made for is refused with wire.CodeFulfilled: an agent that died while its restpoint was being
// listed does not make it twice. The parent is accepted, and with it what the agent need not offer, when it is a listed restpoint of this machine
// and every disk's base root is what it holds.
func (c *Catalog) OpenSession(ctx context.Context, machine string, req wire.SessionRequest) (wire.Session, error) {
	clocks := skew(c.clock.Now(), req.Now)
	if err := checkDisks(req.Disks); err != nil {
		return wire.Session{}, err
	}
	// A commit that was decided is finished before anything else is begun: the chain has no gaps.
	if err := c.finishLive(ctx, machine); err != nil {
		return wire.Session{}, err
	}
	var s Session
	var old string
	var lost []string
	err := c.db.Update(ctx, func(w store.Writer) error {
		old, lost = "", nil
		m, err := getMachine(w, machine)
		if err != nil {
			return err
		}
		if err := m.access().admitted(); err != nil {
			return err
		}
		if m.fulfilled(req.Sync) {
			return wire.NewProblem(409, wire.CodeFulfilled, "the restpoint that was asked for (%s) is there", req.Sync)
		}
		if err := m.admitsSession(req.Sync); err != nil {
			return err
		}
		project, err := getProject(w, m.Project)
		if err != nil {
			return err
		}
		live, err := liveSession(w, machine)
		if err != nil {
			return err
		}
		if live != nil {
			if live.State == SessionCommitting {
				return busy("session %s is being committed", live.ID).WithNext("try again")
			}
			if req.Resume == live.ID && sameDisks(live.Disks, req.Disks) && c.sessions.renew(live.ID) {
				s = *live
				lost, err = lostIDs(w, project.Number)
				return err
			}
			old = live.ID
			if err := c.endSession(w, live, SessionExpired, nil); err != nil {
				return err
			}
		}
		number, err := nextUint(w, metaSessionSeq)
		if err != nil {
			return err
		}
		s = Session{
			ID: newID(), Number: number, Project: m.Project, Machine: machine, State: SessionOpen, Restpoint: newID(),
			Sync: req.Sync, Disks: req.Disks, Opened: c.clock.Now(), Skew: clocks,
		}
		if lost, err = lostIDs(w, project.Number); err != nil {
			return err
		}
		ok, err := acceptParent(w, machine, &req)
		if err != nil {
			return err
		}
		if ok && len(lost) <= maxLost {
			s.Parent = req.Parent
		}
		if req.Inventory != nil {
			m.Inventory = req.Inventory
			if err := putMachine(w, &m); err != nil {
				return err
			}
		}
		if err := w.Put(tableLive, []byte(machine), []byte(s.ID)); err != nil {
			return err
		}
		if err := w.Put(tableMachineSession, under(machine, u64(s.Number)), []byte(s.ID)); err != nil {
			return err
		}
		return sessions.put(w, []byte(s.ID), s)
	})
	if err != nil {
		return wire.Session{}, err
	}
	if old != "" {
		c.sessions.drop(old)
		c.progress.drop(old)
	}
	c.sessions.grant(s.ID)
	if s.Parent == "" {
		lost = nil // all is offered anyway
	}
	return wire.Session{ID: s.ID, Restpoint: s.Restpoint, Parent: s.Parent, Lost: lost, Lease: c.sessionLease(), PatchDepth: format.MaxDepth}, nil
}

func (c *Catalog) sessionLease() wire.SessionLease {
	return wire.SessionLease{TTL: wire.Duration(c.opt.SessionTTL)}
}

func checkDisks(disks []wire.SessionDisk) error {
	if len(disks) == 0 || len(disks) > wire.MaxDisks {
		return badRequest("%d disks in a session, want 1 to %d", len(disks), wire.MaxDisks)
	}
	seen := make(map[string]bool, len(disks))
	for _, d := range disks {
		if d.ID == "" || len(d.ID) > wire.MaxNameLength || len(d.Name) > wire.MaxNameLength {
			return badRequest("disk id %.64q or name %.64q is empty or too long", d.ID, d.Name)
		}
		if seen[d.ID] {
			return badRequest("two disks have the id %.64q", d.ID)
		}
		seen[d.ID] = true
		if err := (chunker.Layout{Size: d.Size, ChunkSize: d.ChunkSize}).Check(); err != nil {
			return badRequest("disk %.64q: %v", d.ID, err)
		}
	}
	return nil
}

// sameDisks reports whether a resumed session is about the same disks: their base roots do not matter any more.
func sameDisks(a, b []wire.SessionDisk) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].ID != b[i].ID || a[i].Size != b[i].Size || a[i].ChunkSize != b[i].ChunkSize {
			return false
		}
	}
	return true
}

// acceptParent checks what the agent says that its base is. Disks that the parent does not have are new and have no base root.
func acceptParent(r store.Reader, machine string, req *wire.SessionRequest) (bool, error) {
	if req.Parent == "" {
		return false, nil
	}
	p, err := restpoints.get(r, []byte(req.Parent))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if p.Machine != machine || p.State == RestpointRemoving {
		return false, nil
	}
	for _, d := range req.Disks {
		base := p.disk(d.ID)
		switch {
		case d.BaseRoot == "":
		case base == nil || base.ChunkSize != d.ChunkSize || base.Root.String() != d.BaseRoot:
			return false, nil
		}
	}
	return true, nil
}
