package gc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// RebuildReport says what a rebuild found and added.
type RebuildReport struct {
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	OK      bool      `json:"ok"` // everything in the bucket is now in the database
	Problems

	Machines         int   `json:"machines"`          // in the bucket
	MachinesAdded    int   `json:"machines_added"`    //
	Packs            int64 `json:"packs"`             // in the bucket
	PacksAdded       int64 `json:"packs_added"`       //
	Entries          int64 `json:"entries"`           // of packs added
	Bytes            int64 `json:"bytes"`             // of packs in the bucket
	PacksToProve     int   `json:"packs_to_prove"`    // queued for nodes
	Restpoints       int   `json:"restpoints"`        // in the bucket
	RestpointsAdded  int   `json:"restpoints_added"`  //
	RestpointsSigned int   `json:"restpoints_signed"` // countersigned again, because another master of this project had done it
}

// Rebuild makes the catalog's rows from the bucket alone: those of packs and their entries from the packs' footers, of machines from their records, of
// restpoints from their objects. A restpoint is listed when both its signatures are right, it is in its place in the machine's chain, and
// every id in its trees resolves. What is in the catalog already stays as it is, so Rebuild also adds what is missing from one, and an interrupted one is run again.
//
// Packs get no owner, because nothing in the bucket says who wrote them for certain: restpoints that name their content can be
// read, agents are offered it once nodes have proven it; prove jobs are queued for all. What the database alone knew is lost: policies, pins, jobs, users, names that were changed.
//
// It refuses a catalog that knows machines which this bucket does not. ErrBusy while a collection runs.
func (g *Collector) Rebuild(ctx context.Context, progress Progress) (RebuildReport, error) {
	b := rebuild{g: g, progress: progress, report: &RebuildReport{Started: g.clock.Now(), Problems: noProblems()}}
	if !g.running.TryLock() {
		return *b.report, ErrBusy
	}
	defer g.running.Unlock()
	err := b.run(ctx)
	b.report.Ended = g.clock.Now()
	b.report.OK = err == nil && b.report.Count == 0
	if err != nil {
		err = fmt.Errorf("rebuild index: %w", err)
	}
	return *b.report, err
}

type rebuild struct {
	g        *Collector
	progress Progress
	report   *RebuildReport
	keys     map[string]*format.Keys   // by project
	records  map[string]*MachineRecord // by machine
}

func (b *rebuild) run(ctx context.Context) (err error) {
	if b.keys, err = b.g.projectKeys(ctx); err != nil {
		return err
	}
	if err := b.readRecords(ctx); err != nil {
		return err
	}
	if err := b.refuse(ctx); err != nil {
		return err
	}
	if err := b.packs(ctx); err != nil {
		return err
	}
	if err := b.machines(ctx); err != nil {
		return err
	}
	if err := b.restpoints(ctx); err != nil {
		return err
	}
	for project := range b.keys {
		n, err := b.g.cat.ProveImported(ctx, project)
		b.report.PacksToProve += n
		if err != nil {
			return err
		}
	}
	return nil
}

// readRecords opens the records of all machines.
func (b *rebuild) readRecords(ctx context.Context) error {
	ids, err := b.g.listMachines(ctx, func(name string) {
		b.report.add(name, "delete it if nobody knows what it is", "this is no machine's record")
	})
	if err != nil {
		return err
	}
	b.records = make(map[string]*MachineRecord, len(ids))
	for _, id := range ids {
		m, err := b.g.findRecord(ctx, b.keys, id)
		switch {
		case err == nil:
			b.records[id] = m
			b.report.Machines++
		case isDamage(err):
			b.report.add(MachineObject(id), "get the object back from a copy of the bucket and run again", "record of a machine: %v", err)
		default:
			return err
		}
	}
	return nil
}

// refuse keeps two sets of machines from being mixed.
func (b *rebuild) refuse(ctx context.Context) error {
	return b.g.eachMachine(ctx, func(m *catalog.Machine) error {
		r := b.records[m.ID]
		if r != nil && r.Project == m.Project && bytes.Equal(r.SigningKey, m.SigningKey) {
			return nil
		}
		what := "has no record in this bucket"
		if r != nil {
			what = "has another key in this bucket"
		}
		return wire.NewProblem(409, wire.CodeConflict, "the database knows machine %s (%s), which %s: they do not belong together", m.Name, m.ID, what).
			WithNext("move the database away and start with an empty one, or give the bucket that belongs to it")
	})
}

// machines adds those that the catalog does not know.
func (b *rebuild) machines(ctx context.Context) error {
	for id, r := range b.records {
		_, err := b.g.cat.Machine(ctx, id)
		if !wire.HasCode(err, wire.CodeNotFound) {
			if err != nil {
				return err
			}
			continue
		}
		m := catalog.Machine{ID: id, Project: r.Project, Name: r.Name, SigningKey: r.SigningKey, Created: r.Created, Revoked: r.Revoked}
		switch _, err := b.g.cat.CreateMachine(ctx, m); {
		case wire.HasCode(err, wire.CodeConflict): // it is on its way out
			delete(b.records, id)
		case err != nil:
			return err
		default:
			b.report.MachinesAdded++
		}
	}
	return nil
}

// importBatch is how many packs are added in one transaction.
const importBatch = 64

// packs adds the packs that the catalog does not know.
func (b *rebuild) packs(ctx context.Context) error {
	var batch []staging.Info
	flush := func() error {
		err := b.importPacks(ctx, batch)
		batch = batch[:0]
		b.progress.tell("packs", b.report.Packs, 0)
		return err
	}
	err := b.g.bucket.List(ctx, packPrefix, "", func(o staging.Info) error {
		id, ok := parsePackName(o.Name)
		if !ok {
			b.report.add(o.Name, "delete it if nobody knows what it is", "this is no pack")
			return nil
		}
		b.report.Packs++
		b.report.Bytes += o.Size
		_, err := b.g.cat.Pack(ctx, id)
		if !wire.HasCode(err, wire.CodeNotFound) {
			return err
		}
		if batch = append(batch, o); len(batch) < importBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

func (b *rebuild) importPacks(ctx context.Context, objects []staging.Info) error {
	type result struct {
		project string
		pack    catalog.PackImport
		err     error
	}
	results := make([]result, len(objects))
	err := inParallel(ctx, len(objects), func(ctx context.Context, i int) error {
		o, r := &objects[i], &results[i]
		id, _ := parsePackName(o.Name)
		r.pack = catalog.PackImport{ID: id, Size: o.Size, Modified: o.Modified}
		r.project, r.pack.Entries, r.err = footer(ctx, b.g.bucket, b.keys, id, o.Size)
		if r.err == nil {
			if r.err = r.pack.Check(); r.err != nil {
				return nil
			}
		}
		if r.err != nil && !isDamage(r.err) {
			return r.err
		}
		return nil
	})
	if err != nil {
		return err
	}
	add := make(map[string][]catalog.PackImport)
	for i := range results {
		r := &results[i]
		if r.err != nil {
			b.report.add(objects[i].Name, "agents that still have what was in it send it again", "pack can not be used: %v", r.err)
			continue
		}
		add[r.project] = append(add[r.project], r.pack)
		b.report.Entries += int64(len(r.pack.Entries))
	}
	for project, packs := range add {
		n, err := b.g.cat.ImportPacks(ctx, project, packs)
		b.report.PacksAdded += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

const packPrefix = "packs/"

func parsePackName(name string) (format.PackID, bool) {
	i := strings.LastIndexByte(name, '/')
	id, err := format.ParsePackID(name[i+1:])
	return id, err == nil && id.Name() == name
}

// fatal says whether an error should end the rebuild rather than be noted against one object.
func fatal(err error) bool {
	var p *wire.Problem
	return !isDamage(err) && !isUnresolved(err) && (!errors.As(err, &p) || p.Status >= 500)
}
