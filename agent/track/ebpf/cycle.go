package ebpf

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/agent/track"
)

// cycle is one restpoint's tracking.
//
//	running ── Intend ──► intended ── Settle ──► done
//	   └────────────── Close ──┴──────────────────┘
type cycle struct {
	t        *tracker
	changed  map[string]*track.Marks // at Start, by disk
	intended string
	lost     bool
	done     bool
}

var errDone = errors.New("the cycle is over")

func (c *cycle) Changed(id, base string) (*track.Marks, string) {
	if c.done {
		return nil, errDone.Error()
	}
	d, marks := c.t.disks[id], c.changed[id]
	if d == nil || marks == nil {
		return nil, c.t.Status(id).Why
	}
	if base == "" || !slices.Contains(d.Bases, base) {
		if len(d.Bases) == 0 {
			return nil, d.Why
		}
		return nil, fmt.Sprintf("marks count since restpoint %s, not since %q", d.Bases[0], base)
	}
	out := track.NewMarks(marks.Size(), marks.Grain())
	out.Union(marks)
	return out, ""
}

func (c *cycle) Flip(context.Context) (map[string]*track.Marks, error) {
	switch {
	case c.done:
		return nil, fmt.Errorf("flip the epoch: %w", errDone)
	case c.intended != "":
		return nil, errors.New("flip the epoch: a restpoint is intended already")
	case c.t.broken != nil:
		return nil, brokenBy(fmt.Errorf("flip the epoch: %w", c.t.broken))
	}
	marks, lost, err := c.t.flip()
	if err != nil {
		return nil, brokenBy(fmt.Errorf("flip the epoch: %w", err))
	}
	for id, why := range lost {
		c.lost = true
		err = errors.Join(err, fmt.Errorf("%w: %s: %s", track.ErrLost, c.t.disks[id].Path, why))
	}
	if err != nil {
		return nil, err
	}
	return marks, nil
}

func (c *cycle) Peek() (map[string]*track.Marks, error) {
	switch {
	case c.done:
		return nil, fmt.Errorf("look at the epoch: %w", errDone)
	case c.t.broken != nil:
		return nil, fmt.Errorf("look at the epoch: %w", c.t.broken)
	}
	return c.t.peek(), nil
}

func (c *cycle) Intend(restpoint string) error {
	switch {
	case c.done:
		return fmt.Errorf("intend restpoint: %w", errDone)
	case c.lost:
		return fmt.Errorf("intend restpoint: %w", track.ErrLost)
	case restpoint == "" || len(restpoint) > 128 || c.intended != "":
		return fmt.Errorf("intend restpoint: bad id %q, or one was intended already", restpoint)
	}
	c.intended = restpoint
	for _, d := range c.t.disks {
		// What was flipped is before the restpoint and harmless, so the marks count from it already.
		if c.changed[d.ID] == nil {
			continue
		}
		d.Bases = append(d.Bases, restpoint)
		if n := len(d.Bases); n > maxBases {
			d.Bases = slices.Delete(d.Bases, 0, n-maxBases)
		}
	}
	return brokenBy(c.t.save())
}

func (c *cycle) Settle() error {
	if c.done || c.intended == "" {
		return errors.New("settle restpoint: none is intended")
	}
	for _, d := range c.t.disks {
		if c.changed[d.ID] == nil {
			continue
		}
		d.Bases, d.Why, d.Settling = []string{c.intended}, "", true
	}
	if err := c.t.save(); err != nil {
		return err
	}
	for _, d := range c.t.disks {
		if d.Settling {
			d.maps[2].clear()
			d.Settling = false
		}
	}
	c.Close()
	return c.t.save()
}

func (c *cycle) Close() {
	c.done, c.changed = true, nil
	if c.t.current == c {
		c.t.current = nil
	}
}
