package gc

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

const restpointAdvice = "get the object or its packs back from a copy of the bucket and run again, or delete the object; until then nothing is collected"

// found is a restpoint's object whose signatures are right.
type found struct {
	name string
	id   string
	link format.ChainLink
}

// restpoints goes through the chains of all machines that have a record.
func (b *rebuild) restpoints(ctx context.Context) error {
	objects := make(map[string][]string) // restpoints by machine
	err := b.g.bucket.List(ctx, restpointPrefix, "", func(o staging.Info) error {
		machine, id, ok := parseRestpointName(o.Name)
		switch {
		case !ok:
			b.report.add(o.Name, "delete it if nobody knows what it is", "this is no restpoint")
		case b.records[machine] == nil:
			stranger, err := b.g.isStranger(ctx, o.Name, id)
			if err != nil || !stranger {
				return err // a machine that is on its way out
			}
			b.report.Restpoints++
			b.report.add(o.Name, restpointAdvice, "there is no record of its machine")
		default:
			b.report.Restpoints++
			objects[machine] = append(objects[machine], id)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list restpoints in staging: %w", err)
	}
	done := 0
	for machine, ids := range objects {
		if err := b.chain(ctx, b.records[machine], ids); err != nil {
			return err
		}
		done += len(ids)
		b.progress.tell("restpoints", int64(done), int64(b.report.Restpoints))
		if err := b.g.PublishMachine(ctx, machine); err != nil && !wire.HasCode(err, wire.CodeNotFound) {
			return err
		}
	}
	return nil
}

// chain adds what is missing of a machine's restpoints.
func (b *rebuild) chain(ctx context.Context, m *MachineRecord, ids []string) error {
	all := make([]found, 0, len(ids))
	for _, id := range ids {
		name := format.RestpointName(m.ID, id)
		p, err := b.open(ctx, m, id)
		switch {
		case err == nil:
			all = append(all, found{name: name, id: id, link: p.link})
		case fatal(err):
			return err
		default:
			b.report.add(name, restpointAdvice, "restpoint: %v", err)
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(x, y found) int {
		return cmp.Or(cmp.Compare(x.link.Sequence, y.link.Sequence), cmp.Compare(x.id, y.id))
	})
	// Those that can not be listed have their place in the chain as well: the next restpoint must not get it.
	if err := b.g.cat.ImportChain(ctx, all[len(all)-1].link); err != nil {
		if fatal(err) {
			return err
		}
		b.report.addError(MachineObject(m.ID), "", "restpoints of machine "+m.Name, err)
		return nil
	}
	v, err := b.g.newResolver(ctx, m.Project, m.ID)
	if err != nil {
		return err
	}
	var last *found
	for i := range all {
		f := &all[i]
		if last != nil {
			if err := follows(&last.link, &f.link); err != nil {
				b.report.add(f.name, restpointAdvice, "restpoint is not in its place: %v", err)
				continue
			}
		}
		last = f
		if err := b.list(ctx, v, m, f); err != nil {
			if fatal(err) {
				return err
			}
			b.report.addError(f.name, restpointAdvice, "restpoint can not be listed", err)
		}
	}
	return nil
}

// follows checks one step of a chain. Restpoints between may have been removed.
func follows(last, next *format.ChainLink) error {
	switch {
	case next.Sequence == last.Sequence:
		return fmt.Errorf("%w: there are two with sequence %d", format.ErrCorrupt, next.Sequence)
	case next.Sequence == last.Sequence+1 && next.Previous != format.LinkHash(*last):
		return fmt.Errorf("%w: it does not follow the restpoint with sequence %d", format.ErrCorrupt, last.Sequence)
	}
	return nil
}

// opened is a restpoint's object and what it says.
type opened struct {
	restpoint *format.Restpoint
	link      format.ChainLink
	object    []byte
	manifest  []byte
	current   bool // this master countersigned it
}

func (b *rebuild) open(ctx context.Context, m *MachineRecord, id string) (*opened, error) {
	object, err := readObject(ctx, b.g.bucket, format.RestpointName(m.ID, id), maxRestpointObject)
	if err != nil {
		return nil, err
	}
	present := b.g.cat.MasterKey()
	for _, key := range m.masterKeys(present) {
		var p *opened
		if p, err = openRestpoint(b.keys[m.Project], object, key, m.SigningKey, m.ID, id); err == nil {
			p.current = key.Equal(present)
			return p, nil
		}
	}
	return nil, err
}

// maxRestpointObject is more than the longest restpoint object, in bytes.
const maxRestpointObject = format.MaxManifest + 4<<10

// openRestpoint checks both signatures, and that the object is where it belongs.
func openRestpoint(keys *format.Keys, object []byte, master, agent ed25519.PublicKey, machine, id string) (*opened, error) {
	manifest, link, err := format.OpenObject(object, master)
	if err != nil {
		return nil, err
	}
	p, err := format.OpenRestpoint(keys, agent, manifest)
	if err != nil {
		return nil, err
	}
	if p.ID != id || p.Machine != machine || link.Machine != machine || link.Sequence == 0 {
		return nil, fmt.Errorf("%w: it is restpoint %s of machine %s", format.ErrCorrupt, p.ID, p.Machine)
	}
	return &opened{restpoint: p, link: link, object: object, manifest: manifest}, nil
}

// list checks a restpoint's trees and puts its row. One that another master of this project countersigned gets this master's signature first, because
// nodes trust no other.
func (b *rebuild) list(ctx context.Context, v *resolver, m *MachineRecord, f *found) error {
	if _, err := b.g.cat.RestpointObject(ctx, f.id); !wire.HasCode(err, wire.CodeNotFound) {
		return err
	}
	p, err := b.open(ctx, m, f.id)
	if err != nil {
		return err
	}
	if format.LinkHash(p.link) != format.LinkHash(f.link) {
		return fmt.Errorf("%w: it changed meanwhile", format.ErrCorrupt)
	}
	if p.restpoint.Project != m.Project {
		return fmt.Errorf("%w: it is of project %s", format.ErrCorrupt, p.restpoint.Project)
	}
	if err := v.restpoint(ctx, p.restpoint.Disks); err != nil {
		return err
	}
	if !p.current {
		if p.object, err = b.g.cat.CountersignAgain(p.manifest, p.link); err != nil {
			return err
		}
		if err := b.g.bucket.Put(ctx, f.name, p.object, nil); err != nil {
			return fmt.Errorf("put %s: %w", f.name, err)
		}
		b.report.RestpointsSigned++
	}
	added, err := b.g.cat.ImportRestpoint(ctx, p.restpoint, p.link, p.object)
	if added {
		b.report.RestpointsAdded++
	}
	return err
}
