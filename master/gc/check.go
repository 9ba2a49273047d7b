package gc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// CheckOptions change a check. A nil *CheckOptions is ready for use.
type CheckOptions struct {
	Deep     bool // also compare every pack's own list of entries with the index; content is checked by verify jobs
	Progress Progress
}

// CheckReport says how the catalog and the bucket compare.
type CheckReport struct {
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Deep    bool      `json:"deep"`
	OK      bool      `json:"ok"` // there is no problem; orphans alone are none
	Problems

	Packs       int64 `json:"packs"` // rows
	PacksBroken int64 `json:"packs_broken"`
	PacksRead   int64 `json:"packs_read"` // compared entry by entry
	Bytes       int64 `json:"bytes"`      // of packs in the bucket

	Machines         int `json:"machines"`
	Restpoints       int `json:"restpoints"`
	RestpointsBroken int `json:"restpoints_broken"`

	// Orphans are objects that the database knows nothing of. They are never deleted by a collection.
	Orphans     []string `json:"orphans"` // the first of them
	OrphanCount int64    `json:"orphan_count"`
	OrphanBytes int64    `json:"orphan_bytes"`
}

// Check compares the catalog with the bucket. It changes nothing, and sessions may go on: what comes and goes meanwhile is looked at twice.
func (g *Collector) Check(ctx context.Context, opt *CheckOptions) (CheckReport, error) {
	if opt == nil {
		opt = &CheckOptions{}
	}
	k := check{g: g, opt: opt, report: &CheckReport{
		Started: g.clock.Now(), Deep: opt.Deep, Problems: noProblems(), Orphans: []string{},
	}}
	err := k.run(ctx)
	k.report.Ended = g.clock.Now()
	k.report.OK = err == nil && k.report.Count == 0
	if err != nil {
		err = fmt.Errorf("check staging: %w", err)
	}
	return *k.report, err
}

type check struct {
	g      *Collector
	opt    *CheckOptions
	report *CheckReport
	keys   map[string]*format.Keys
}

func (k *check) run(ctx context.Context) (err error) {
	if k.keys, err = k.g.projectKeys(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{k.packs, k.machines, k.restpoints, k.strangers} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (k *check) orphan(name string, size int64) {
	k.report.OrphanCount++
	k.report.OrphanBytes += size
	if len(k.report.Orphans) < maxProblems {
		k.report.Orphans = append(k.report.Orphans, name)
	}
}

// machines looks for the record of each machine, and for records of none.
func (k *check) machines(ctx context.Context) error {
	known := make(map[string]bool)
	err := k.g.eachMachine(ctx, func(m *catalog.Machine) error {
		known[m.ID] = true
		k.report.Machines++
		r, err := k.g.machineRecord(ctx, k.keys[m.Project], m.ID)
		if err == nil && (r.Project != m.Project || !bytes.Equal(r.SigningKey, m.SigningKey)) {
			err = fmt.Errorf("%w: it says otherwise than the database", format.ErrCorrupt)
		}
		if err != nil && !isDamage(err) {
			return err
		}
		if err != nil {
			k.report.add(MachineObject(m.ID), "restart the master: it writes records that are not right", "record of machine %s: %v", m.Name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	ids, err := k.g.listMachines(ctx, func(name string) { k.orphan(name, 0) })
	for _, id := range ids {
		if known[id] {
			continue
		}
		if _, err := k.g.cat.Machine(ctx, id); wire.HasCode(err, wire.CodeNotFound) {
			k.orphan(MachineObject(id), 0)
		} else if err != nil {
			return err
		}
	}
	return err
}

// restpoints opens each restpoint that is listed and walks its trees.
func (k *check) restpoints(ctx context.Context) error {
	all, err := k.g.cat.AllRestpoints(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b catalog.Restpoint) int {
		return cmp.Or(cmp.Compare(a.Machine, b.Machine), cmp.Compare(a.Sequence, b.Sequence))
	})
	var v *resolver
	for i := range all {
		p := &all[i]
		if v == nil || v.machine != p.Machine {
			if v, err = k.g.newResolver(ctx, p.Project, p.Machine); err != nil {
				return err
			}
		}
		k.report.Restpoints++
		k.opt.Progress.tell("restpoints", int64(i+1), int64(len(all)))
		err := k.restpoint(ctx, v, p)
		if err == nil {
			continue
		}
		if fatal(err) {
			return err
		}
		gone, again := k.g.isGone(ctx, p.ID)
		if again != nil {
			return again
		}
		if gone {
			k.report.Restpoints--
			continue
		}
		k.report.RestpointsBroken++
		k.report.add(format.RestpointName(p.Machine, p.ID), "openmigrate restpoints verify "+p.ID+"; if it can not be mended: openmigrate restpoints rm "+p.ID,
			"restpoint %d of machine %s: %v", p.Sequence, p.Machine, err)
	}
	return nil
}

// isGone reports whether a restpoint is not listed any more.
func (g *Collector) isGone(ctx context.Context, id string) (bool, error) {
	_, err := g.cat.Restpoint(ctx, id)
	if wire.HasCode(err, wire.CodeNotFound) {
		return true, nil
	}
	return false, err
}

func (k *check) restpoint(ctx context.Context, v *resolver, p *catalog.Restpoint) error {
	m, err := k.g.cat.Machine(ctx, p.Machine)
	if err != nil {
		return err
	}
	name := format.RestpointName(p.Machine, p.ID)
	object, err := readObject(ctx, k.g.bucket, name, maxRestpointObject)
	if err != nil {
		return err
	}
	o, err := openRestpoint(k.keys[p.Project], object, k.g.cat.MasterKey(), m.SigningKey, p.Machine, p.ID)
	if err != nil {
		return err
	}
	if o.link.Sequence != p.Sequence || !sameRoots(o.restpoint.Disks, p.Disks) {
		return fmt.Errorf("%w: it says otherwise than the database", format.ErrCorrupt)
	}
	return v.restpoint(ctx, p.Disks)
}

func sameRoots(a, b []format.Disk) bool {
	return slices.EqualFunc(a, b, func(x, y format.Disk) bool {
		return x.ID == y.ID && x.Size == y.Size && x.ChunkSize == y.ChunkSize && x.Root == y.Root
	})
}

// strangers looks for restpoints in the bucket that the catalog does not know. They are more than orphans: collections wait until they are dealt with.
func (k *check) strangers(ctx context.Context) error {
	return k.g.bucket.List(ctx, restpointPrefix, "", func(o staging.Info) error {
		_, id, ok := parseRestpointName(o.Name)
		if !ok {
			k.orphan(o.Name, o.Size)
			return nil
		}
		stranger, err := k.g.isStranger(ctx, o.Name, id)
		if err == nil && stranger {
			k.report.add(o.Name, strangerAdvice, strangerMessage)
		}
		return err
	})
}

// stat reports whether an object is there and how long it is.
func (g *Collector) stat(ctx context.Context, name string) (size int64, there bool, err error) {
	o, err := g.bucket.Stat(ctx, name)
	if errors.Is(err, staging.ErrNotFound) {
		return 0, false, nil
	}
	return o.Size, err == nil, err
}
