package catalogtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// Restore reads a whole restpoint as a node does, from the object in the bucket down, and verifies every signature and id.
func (e *Env) Restore(restpoint string) ([]Disk, error) {
	ctx := e.T.Context()
	p, err := e.Catalog.Restpoint(ctx, restpoint)
	if err != nil {
		return nil, err
	}
	m, err := e.Catalog.Machine(ctx, p.Machine)
	if err != nil {
		return nil, err
	}
	object, err := e.object(ctx, format.RestpointName(p.Machine, p.ID), 0, -1)
	if err != nil {
		return nil, err
	}
	manifest, link, err := format.OpenObject(object, e.MasterKey.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	if link.Machine != p.Machine || link.Sequence != p.Sequence {
		return nil, fmt.Errorf("link %d of %s for restpoint %d of %s", link.Sequence, link.Machine, p.Sequence, p.Machine)
	}
	r, err := format.OpenRestpoint(e.Keys, m.SigningKey, manifest)
	if err != nil {
		return nil, err
	}
	opener, err := format.NewOpener(e.Keys)
	if err != nil {
		return nil, err
	}
	rd := &reader{e: e, project: p.Project, machine: p.Machine, opener: opener}
	var disks []Disk
	for i := range r.Disks {
		d := &r.Disks[i]
		out := Disk{ID: d.ID, Data: make([]byte, d.Size)}
		layout := d.Layout()
		err := format.Walk(ctx, rd, d.Root, layout.Chunks(), nil, func(index int64, id chunker.ID) error {
			if id.IsZero() {
				return nil
			}
			content, err := rd.Nodes(ctx, []chunker.ID{id})
			if err != nil {
				return err
			}
			off, n := layout.Extent(index)
			if len(content[0]) != n {
				return fmt.Errorf("chunk %d has %d bytes, want %d", index, len(content[0]), n)
			}
			copy(out.Data[off:], content[0])
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", d.ID, err)
		}
		disks = append(disks, out)
	}
	return disks, nil
}

// MustRestore fails the test unless the restpoint restores to exactly these disks.
func (e *Env) MustRestore(restpoint string, want ...Disk) {
	e.T.Helper()
	got, err := e.Restore(restpoint)
	if err != nil {
		e.T.Fatalf("restore %s: %v", restpoint, err)
	}
	if len(got) != len(want) {
		e.T.Fatalf("restore %s: %d disks, want %d", restpoint, len(got), len(want))
	}
	for i := range want {
		if got[i].ID != want[i].ID || !bytes.Equal(got[i].Data, want[i].Data) {
			e.T.Errorf("restore %s: disk %s differs", restpoint, want[i].ID)
		}
	}
}

func (e *Env) object(ctx context.Context, name string, off, length int64) ([]byte, error) {
	body, err := e.Bucket.Get(ctx, name, off, length)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer body.Close()
	return io.ReadAll(body)
}

// reader reads entries of any kind.
type reader struct {
	e                *Env
	project, machine string
	opener           *format.Opener
}

// Nodes implements format.NodeReader.
func (r *reader) Nodes(ctx context.Context, ids []chunker.ID) ([][]byte, error) {
	var locs []wire.Location
	locs, err := r.e.Catalog.ResolveFor(ctx, r.project, r.machine, ids)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(ids))
	for i, l := range locs {
		if !l.Found {
			return nil, fmt.Errorf("%s does not resolve", ids[i])
		}
		if out[i], err = r.open(ctx, &l); err != nil {
			return nil, fmt.Errorf("%s in pack %s: %w", ids[i], l.Pack, err)
		}
	}
	return out, nil
}

func (r *reader) open(ctx context.Context, l *wire.Location) ([]byte, error) {
	stored, err := r.e.object(ctx, l.Pack.Name(), int64(l.Entry.Offset), int64(l.Entry.Stored))
	if err != nil {
		return nil, err
	}
	if !l.Entry.IsPatch() {
		return r.opener.OpenVerified(l.Pack, l.Entry, stored, nil)
	}
	base, err := r.e.Catalog.ResolveFor(ctx, r.project, r.machine, []chunker.ID{l.Entry.Base})
	if err != nil {
		return nil, err
	}
	if !base[0].Found || !l.Entry.StandsOn(&base[0].Entry) {
		return nil, fmt.Errorf("base %s is not there with less depth than %d: %+v", l.Entry.Base, l.Entry.Depth, base[0])
	}
	content, err := r.open(ctx, &base[0])
	if err != nil {
		return nil, fmt.Errorf("base %s: %w", l.Entry.Base, err)
	}
	return r.opener.OpenPatch(l.Pack, l.Entry, stored, content, nil)
}

// IDs lists every id in a restpoint's trees.
func (e *Env) IDs(p *catalog.Restpoint) ([]chunker.ID, error) {
	opener, err := format.NewOpener(e.Keys)
	if err != nil {
		return nil, err
	}
	rd := &reader{e: e, project: p.Project, machine: p.Machine, opener: opener}
	var ids []chunker.ID
	for i := range p.Disks {
		d := &p.Disks[i]
		err := format.Walk(e.T.Context(), rd, d.Root, d.Layout().Chunks(),
			func(_ int, _ int64, id chunker.ID) (bool, error) { ids = append(ids, id); return true, nil },
			func(_ int64, id chunker.ID) error { ids = append(ids, id); return nil })
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}
