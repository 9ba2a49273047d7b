package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Fleet answers for all machines of a project at once, without reading their rows each time: a row holds an inventory, and ten thousand of them take seconds to
// decode. It keeps each machine without what lists do not show, and reads a row again only after it was written.
//
// Whoever writes tells it so: Hear must be called after each transaction that wrote a row of machines, or of sessions, with the machine's id. What is only in
// memory (when an agent was heard of, how far its session is) is looked up when it is asked for.
type Fleet struct {
	c *Catalog

	reading sync.Mutex // one reads rows at a time, so that an older row never replaces a newer one

	mu      sync.Mutex
	loaded  map[string]bool     // guarded by mu; projects whose machines are all known
	known   map[string]*Machine // guarded by mu, by id; never changed once it is here
	changed map[string]bool     // guarded by mu; ids whose rows are to be read again
}

// NewFleet returns a fleet that knows nothing yet.
func NewFleet(c *Catalog) *Fleet {
	return &Fleet{c: c, loaded: map[string]bool{}, known: map[string]*Machine{}, changed: map[string]bool{}}
}

// Hear takes a change: of what kind of thing (package outbox has them), its id, and the machine that it belongs to. It does not wait for the database.
func (f *Fleet) Hear(kind, id, machine string) {
	switch kind {
	case "session":
		id = machine
	case "machine":
	default:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.loaded) > 0 { // else all is read anyway
		f.changed[id] = true
	}
}

// Machines returns a project's machines, in no order: without inventories (but for the system's name), events, and what the agent says of disks, but for
// those that are scanned.
func (f *Fleet) Machines(ctx context.Context, project string) ([]Machine, error) {
	f.reading.Lock()
	err := f.refresh(ctx, project)
	f.reading.Unlock()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	list := make([]Machine, 0, len(f.known))
	for _, m := range f.known {
		if m.Project == project {
			list = append(list, *m)
		}
	}
	f.mu.Unlock()
	for i := range list {
		f.c.lively(&list[i])
	}
	return list, nil
}

// refresh reads what was written since. Marks are taken off before rows are read, so a row that is written meanwhile is read again the next time.
func (f *Fleet) refresh(ctx context.Context, project string) error {
	f.mu.Lock()
	todo := f.changed
	f.changed = map[string]bool{}
	all := !f.loaded[project]
	f.loaded[project] = true // from here on changes are noted
	f.mu.Unlock()            // writers must not wait for the database
	fresh := map[string]*Machine{}
	err := f.c.db.View(ctx, func(r store.Reader) error {
		clear(fresh)
		if all {
			if _, err := getProject(r, project); err != nil {
				return err
			}
			if err := r.Scan(tableMachineNames, under(project, nil), nil, func(_, id []byte) error { return f.read(r, string(id), fresh) }); err != nil {
				return err
			}
		}
		for id := range todo {
			if err := f.read(r, id, fresh); err != nil {
				return err
			}
		}
		return nil
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		for id := range todo {
			f.changed[id] = true
		}
		if all {
			delete(f.loaded, project)
		}
		return err
	}
	for id, m := range fresh {
		if m == nil {
			delete(f.known, id)
			continue
		}
		f.known[id] = m
	}
	return nil
}

// fleetRow is a machine's row without what lists do not show: to pass over an inventory costs a fraction of what it costs to read it.
type fleetRow struct {
	Machine
	Inventory *struct {
		OS wire.OSRelease `json:"os"`
	} `json:"inventory"`
	Events passedOver `json:"events"`
	Syncs  passedOver `json:"syncs"`
}

var fleetRows = table[fleetRow](machines)

// passedOver is JSON of any kind that nobody reads.
type passedOver struct{}

// UnmarshalJSON implements json.Unmarshaler.
func (passedOver) UnmarshalJSON([]byte) error { return nil }

// Load reads all projects' machines, so that the first who asks need not wait for it.
func (f *Fleet) Load(ctx context.Context) error {
	list, err := f.c.Projects(ctx)
	for i := range list {
		if err != nil {
			break
		}
		_, err = f.Machines(ctx, list[i].ID)
	}
	if err != nil {
		return fmt.Errorf("read all machines: %w", err)
	}
	return nil
}

// read puts a machine into fresh; nil for one that is gone.
func (f *Fleet) read(r store.Reader, id string, fresh map[string]*Machine) error {
	if _, ok := fresh[id]; ok {
		return nil
	}
	row, err := fleetRows.get(r, []byte(id))
	if errors.Is(err, store.ErrNotFound) || err == nil && row.Removing {
		fresh[id] = nil
		return nil
	}
	if err != nil {
		return err
	}
	m := &row.Machine
	if row.Inventory != nil {
		m.Inventory = &wire.Inventory{OS: row.Inventory.OS}
	}
	s, err := liveSession(r, id)
	if err != nil {
		return err
	}
	m.session(s)
	fresh[id] = m.slim()
	return nil
}

// slim is the machine as lists show it.
func (m *Machine) slim() *Machine {
	x := *m
	if m.Inventory != nil {
		x.Inventory = &wire.Inventory{OS: m.Inventory.OS}
	}
	x.Events, x.SigningKey, x.Syncs = nil, nil, nil
	x.Report.Disks = nil
	if d := m.scanned(); d != nil {
		x.Report.Disks = []wire.DiskReport{*d}
	}
	return &x
}

// session fills in what the machine's live session says; nil: it has none.
func (m *Machine) session(s *Session) {
	if s != nil {
		m.Session, m.Opened, m.Rescanning = s.ID, s.Opened, s.Parent == "" && m.LastRestpoint != ""
	}
}

// lively fills in what is not in the rows.
func (c *Catalog) lively(m *Machine) {
	if seen := c.seen.get(m.ID); seen.After(m.LastSeen) {
		m.LastSeen = seen
	}
	if m.LastInstant.IsZero() { // of a row from before it was kept
		m.LastInstant = m.LastTime
	}
	m.Interval = c.interval(m)
	if m.Session != "" {
		if p, ok := c.progress.get(m.Session); ok {
			m.Progress = &p
		}
	}
}
