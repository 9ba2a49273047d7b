package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Limits of what is kept for each machine.
const (
	maxEvents      = 100
	maxEventText   = 1024 // bytes
	maxSyncs       = 16
	maxMachineName = 63 // bytes
)

// Policy is what the operator wants of a machine's replication. Zero values leave it to the default.
type Policy struct {
	Interval    time.Duration `json:"interval,omitempty"` // from start to start of cycles; negative: only when asked
	Disks       []string      `json:"disks,omitempty"`    // ids or paths; empty: all
	ChunkSize   int           `json:"chunk_size,omitempty"`
	Bandwidth   int64         `json:"bandwidth,omitempty"` // bytes per second
	Window      *wire.Window  `json:"window,omitempty"`
	Consistency string        `json:"consistency,omitempty"`
}

// SyncDone says which restpoint a wish for one led to.
type SyncDone struct {
	ID        string `json:"id"`
	Restpoint string `json:"restpoint"`
}

// Machine is a source server.
type Machine struct {
	ID                string          `json:"id"`
	Project           string          `json:"project"`
	Name              string          `json:"name"` // unique in the project
	Created           time.Time       `json:"created"`
	SigningKey        []byte          `json:"signing_key"` // Ed25519 public key that signs its restpoints
	Fingerprint       string          `json:"fingerprint"`
	Generation        uint64          `json:"generation"`       // of the last Hello
	Frozen            string          `json:"frozen,omitempty"` // why; empty: it is not
	Revoked           bool            `json:"revoked,omitempty"`
	Removing          bool            `json:"removing,omitempty"` // hidden; its restpoints are on their way out
	Paused            bool            `json:"paused,omitempty"`
	Inventory         *wire.Inventory `json:"inventory,omitempty"`
	LastSeen          time.Time       `json:"last_seen"`
	AgentVersion      string          `json:"agent_version"`
	Policy            Policy          `json:"policy"`
	AssignmentVersion uint64          `json:"assignment_version"`
	Group             string          `json:"group,omitempty"` // people's, to sort machines by
	Tags              []string        `json:"tags,omitempty"`  // likewise; sorted

	// The chain of its restpoints.
	LastRestpoint   string    `json:"last_restpoint,omitempty"`   // newest that is listed
	LastTime        time.Time `json:"last_time"`                  // of LastRestpoint: when it was listed
	LastInstant     time.Time `json:"last_instant,omitzero"`      // of LastRestpoint: what its disks are like, by the master's clock
	LastConsistency string    `json:"last_consistency,omitempty"` // of LastRestpoint
	Sequence        uint64    `json:"sequence"`                   // of the newest ever listed
	LastLink        [32]byte  `json:"last_link"`                  // format.LinkHash of that one

	Sync  string     `json:"sync,omitempty"`  // id of the wish that is open
	Syncs []SyncDone `json:"syncs,omitempty"` // the last that were fulfilled, oldest first

	Hold       *wire.Hold      `json:"hold,omitempty"`       // a cutover's; nil: none. Set by SetHold alone
	HoldSince  time.Time       `json:"hold_since,omitzero"`  // when the last hold was set
	HoldReport wire.HoldReport `json:"hold_report,omitzero"` // what the agent said last of the hold that was set last; its State is empty until it has

	Report      wire.Report  `json:"report"`                // the last, without its events, and what earlier ones said of disks and cycles
	Failure     string       `json:"failure,omitempty"`     // of the last cycle; empty: it made a restpoint
	Unconverged int          `json:"unconverged,omitempty"` // cycles in a row that reached no one instant
	Pace        Pace         `json:"pace,omitzero"`
	Late        bool         `json:"late,omitempty"` // cycles took too long, and not clearly less since
	Events      []wire.Event `json:"events,omitempty"`

	// Filled in when a machine is read, never stored.
	Session    string         `json:"-"` // that is open or committing
	Opened     time.Time      `json:"-"` // when that session was
	Rescanning bool           `json:"-"` // that session had to start over without a base
	Progress   *wire.Progress `json:"-"` // of that session
	Interval   time.Duration  `json:"-"` // that its assignment says; 0: only when asked
}

var machines = table[Machine]{"machines"}

func forMachines(r store.Writer, fn func(*Machine) error) error {
	var all []Machine
	err := machines.scan(r, nil, nil, func(_ []byte, m Machine) error {
		all = append(all, m)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range all {
		if err := fn(&all[i]); err != nil {
			return err
		}
	}
	return nil
}

// CreateMachine stores a new machine. ID and Created are set when they are empty. The name is made fit and unique in the project: name, name-2, …
func (c *Catalog) CreateMachine(ctx context.Context, m Machine) (Machine, error) {
	if m.Project == "" {
		m.Project = DefaultProject
	}
	if m.ID == "" {
		m.ID = newID()
	}
	if m.Created.IsZero() {
		m.Created = c.clock.Now()
	}
	m.AssignmentVersion = 1
	base := fitName(m.Name)
	err := c.db.Update(ctx, func(w store.Writer) error {
		if _, err := getProject(w, m.Project); err != nil {
			return err
		}
		if ok, err := exists(w, machines.name, []byte(m.ID)); ok || err != nil {
			return errors.Join(err, conflict("there is a machine with the id %.64q", m.ID))
		}
		for i := 1; ; i++ {
			m.Name = base
			if i > 1 {
				m.Name = fmt.Sprintf("%s-%d", base, i)
			}
			taken, err := exists(w, tableMachineNames, under(m.Project, []byte(m.Name)))
			if err != nil {
				return err
			}
			if !taken {
				break
			}
		}
		if err := w.Put(tableMachineNames, under(m.Project, []byte(m.Name)), []byte(m.ID)); err != nil {
			return err
		}
		return putMachine(w, &m)
	})
	if err != nil {
		return Machine{}, err
	}
	c.seen.set(m.ID, m.Created)
	return c.Machine(ctx, m.ID)
}

// fitName keeps what a host name may have, so that names can be typed in a shell and shown anywhere.
func fitName(name string) string {
	fit := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, name)
	if len(fit) > maxMachineName-8 {
		fit = fit[:maxMachineName-8]
	}
	fit = strings.Trim(fit, "-._")
	if fit == "" {
		return "machine"
	}
	return fit
}

// Machine returns a machine by its id, or by its name in the default project; CodeNotFound.
func (c *Catalog) Machine(ctx context.Context, ref string) (Machine, error) {
	var m Machine
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		if m, err = findMachine(r, ref); err != nil {
			return err
		}
		return c.complete(r, &m)
	})
	return m, err
}

// MachineOf returns a machine of a project by its id or name; CodeNotFound, also for one of another project.
func (c *Catalog) MachineOf(ctx context.Context, project, ref string) (Machine, error) {
	var m Machine
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		if m, err = getMachine(r, ref); err == nil && m.Project == project {
			return c.complete(r, &m)
		}
		if err != nil && !wire.HasCode(err, wire.CodeNotFound) {
			return err
		}
		id, err := r.Get(tableMachineNames, under(project, []byte(ref)))
		if errors.Is(err, store.ErrNotFound) {
			return noMachine(ref)
		}
		if err == nil {
			m, err = getMachine(r, string(id))
		}
		if err != nil {
			return err
		}
		return c.complete(r, &m)
	})
	if err != nil {
		return Machine{}, err
	}
	return m, nil
}

// OS is what the machine's system calls itself; empty: unknown.
func (m *Machine) OS() string {
	if m.Inventory == nil {
		return ""
	}
	if m.Inventory.OS.PrettyName != "" {
		return m.Inventory.OS.PrettyName
	}
	return strings.TrimSpace(m.Inventory.OS.ID + " " + m.Inventory.OS.Version)
}

// CountMachines returns how many machines a project has.
func (c *Catalog) CountMachines(ctx context.Context, project string) (int, error) {
	n := 0
	err := c.db.View(ctx, func(r store.Reader) error {
		n = 0
		return r.Scan(tableMachineNames, under(project, nil), nil, func(_, _ []byte) error {
			n++
			return nil
		})
	})
	return n, err
}

// Machines returns a project's machines in order of their names.
func (c *Catalog) Machines(ctx context.Context, project string) ([]Machine, error) {
	var all []Machine
	err := c.db.View(ctx, func(r store.Reader) error {
		if _, err := getProject(r, project); err != nil {
			return err
		}
		return r.Scan(tableMachineNames, under(project, nil), nil, func(_, id []byte) error {
			m, err := getMachine(r, string(id))
			if err != nil {
				return err
			}
			all = append(all, m)
			return c.complete(r, &all[len(all)-1])
		})
	})
	return all, err
}

// putMachine is the only writer of a machine's rows.
func putMachine(w store.Writer, m *Machine) error {
	if err := access.put(w, []byte(m.ID), *m.access()); err != nil {
		return err
	}
	return machines.put(w, []byte(m.ID), *m)
}

// getMachine returns CodeNotFound for a machine that is not there or is being removed.
func getMachine(r store.Reader, id string) (Machine, error) {
	m, err := machines.get(r, []byte(id))
	if errors.Is(err, store.ErrNotFound) || err == nil && m.Removing {
		return m, noMachine(id)
	}
	return m, err
}

func noMachine(ref string) error {
	return notFound("there is no machine %.64q", ref).WithNext("openmigrate machines ls lists them")
}

func findMachine(r store.Reader, ref string) (Machine, error) {
	m, err := getMachine(r, ref)
	if !wire.HasCode(err, wire.CodeNotFound) {
		return m, err
	}
	id, nameErr := r.Get(tableMachineNames, under(DefaultProject, []byte(ref)))
	if errors.Is(nameErr, store.ErrNotFound) {
		return m, err
	}
	if nameErr != nil {
		return m, nameErr
	}
	return getMachine(r, string(id))
}

// complete fills in what is not in the row.
func (c *Catalog) complete(r store.Reader, m *Machine) error {
	s, err := liveSession(r, m.ID)
	if err != nil {
		return err
	}
	m.session(s)
	c.lively(m)
	return nil
}

func (c *Catalog) interval(m *Machine) time.Duration {
	switch {
	case m.Policy.Interval < 0:
		return 0
	case m.Policy.Interval == 0:
		return c.opt.DefaultInterval
	}
	return m.Policy.Interval
}

// fulfilled reports whether a restpoint was made for a wish; old wishes are forgotten.
func (m *Machine) fulfilled(sync string) bool {
	return slices.ContainsFunc(m.Syncs, func(d SyncDone) bool { return d.ID == sync })
}
