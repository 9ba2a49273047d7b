package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// RestpointState is where a restpoint stands:
//
//	(session commits) ─► listed ⇄ damaged ─► removing ─► (row deleted)
//
// It is damaged when a verification found something that can not be read, and listed again when a later one found all.
type RestpointState string

// States of restpoints.
const (
	RestpointListed   RestpointState = "listed"
	RestpointDamaged  RestpointState = "damaged"
	RestpointRemoving RestpointState = "removing" // hidden; the row stays while a session or job holds it
)

// Restpoint is one point in time of all disks of a machine.
type Restpoint struct {
	ID          string         `json:"id"`
	Project     string         `json:"project"`
	Machine     string         `json:"machine"`
	Sequence    uint64         `json:"sequence"`
	Created     time.Time      `json:"created"`          // the instant that it is of, by the agent's clock
	Instant     time.Time      `json:"instant,omitzero"` // the same by the master's clock; zero: it was found in the bucket
	Listed      time.Time      `json:"listed"`           // the master's clock when it was decided
	Parent      string         `json:"parent,omitempty"`
	Consistency string         `json:"consistency"`
	Disks       []format.Disk  `json:"disks"`
	Stats       wire.Progress  `json:"stats"`
	Pinned      bool           `json:"pinned,omitempty"`
	State       RestpointState `json:"state"`
	Verified    *time.Time     `json:"verified,omitempty"`
	ObjectSize  int64          `json:"object_size"` // bytes
}

func (p *Restpoint) disk(id string) *format.Disk {
	for i := range p.Disks {
		if p.Disks[i].ID == id {
			return &p.Disks[i]
		}
	}
	return nil
}

var restpoints = table[Restpoint]{"restpoints"}

// Restpoint returns a restpoint by its id, or the newest of machine M by "M/latest"; CodeNotFound.
func (c *Catalog) Restpoint(ctx context.Context, ref string) (Restpoint, error) {
	var p Restpoint
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		p, err = findRestpoint(r, ref)
		return err
	})
	return p, err
}

func findRestpoint(r store.Reader, ref string) (Restpoint, error) {
	machine, latest := strings.CutSuffix(ref, "/latest")
	if !latest {
		return getRestpoint(r, ref)
	}
	m, err := findMachine(r, machine)
	if err != nil {
		return Restpoint{}, err
	}
	if m.LastRestpoint == "" {
		return Restpoint{}, notFound("machine %s has no restpoint yet", m.Name).WithNext("openmigrate machines sync " + m.Name)
	}
	return getRestpoint(r, m.LastRestpoint)
}

func getRestpoint(r store.Reader, id string) (Restpoint, error) {
	p, err := restpoints.get(r, []byte(id))
	if errors.Is(err, store.ErrNotFound) || err == nil && p.State == RestpointRemoving {
		return p, notFound("there is no restpoint %.64q", id).WithNext("openmigrate restpoints ls M lists those of a machine")
	}
	return p, err
}

// Restpoints returns those of a machine (id or name), newest first.
func (c *Catalog) Restpoints(ctx context.Context, machine string) ([]Restpoint, error) {
	var all []Restpoint
	err := c.db.View(ctx, func(r store.Reader) error {
		m, err := findMachine(r, machine)
		if err != nil {
			return err
		}
		return r.Scan(tableMachineRest, under(m.ID, nil), nil, func(_, id []byte) error {
			p, err := restpoints.get(r, id)
			all = append(all, p)
			return err
		})
	})
	slices.Reverse(all)
	return all, err
}

// RestpointObject returns a restpoint's countersigned object, as it is in the bucket or should be.
func (c *Catalog) RestpointObject(ctx context.Context, id string) ([]byte, error) {
	var object []byte
	err := c.db.View(ctx, func(r store.Reader) error {
		b, err := r.Get(tableObjects, []byte(id))
		if errors.Is(err, store.ErrNotFound) {
			return notFound("there is no restpoint %.64q", id)
		}
		object = slices.Clone(b)
		return err
	})
	return object, err
}

// PinRestpoint keeps a restpoint from being removed, or no longer.
func (c *Catalog) PinRestpoint(ctx context.Context, id string, pinned bool) error {
	return c.changeRestpoint(ctx, id, func(p *Restpoint) { p.Pinned = pinned })
}

// SetRestpointHealth notes what a check of a restpoint found.
func (c *Catalog) SetRestpointHealth(ctx context.Context, id string, damaged bool) error {
	now := c.clock.Now()
	return c.changeRestpoint(ctx, id, func(p *Restpoint) { p.checked(damaged, now) })
}

func (p *Restpoint) checked(damaged bool, now time.Time) {
	if damaged {
		p.State = RestpointDamaged
		return
	}
	p.State, p.Verified = RestpointListed, &now
}

func (c *Catalog) changeRestpoint(ctx context.Context, ref string, fn func(*Restpoint)) error {
	return c.db.Update(ctx, func(w store.Writer) error {
		p, err := findRestpoint(w, ref)
		if err != nil {
			return err
		}
		fn(&p)
		return restpoints.put(w, []byte(p.ID), p)
	})
}

// newestRestpoint returns the newest of a machine that is left; nil when there is none.
func newestRestpoint(r store.Reader, machine string) (*Restpoint, error) {
	var newest []byte
	var sequence uint64
	err := r.Scan(tableMachineRest, under(machine, nil), nil, func(k, id []byte) error {
		sequence = binary.BigEndian.Uint64(k[len(k)-8:])
		newest = id
		return nil
	})
	if err != nil || sequence == 0 {
		return nil, err
	}
	p, err := restpoints.get(r, newest)
	return &p, err
}
