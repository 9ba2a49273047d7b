package providercheck

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/providers"
)

func (c *checker) newSnapshot(ctx context.Context, launch, volume string) (providers.Snapshot, error) {
	s, err := c.CreateSnapshot(ctx, providers.SnapshotSpec{Meta: c.meta(launch), Volume: volume})
	if err != nil {
		return s, err
	}
	return providers.AwaitSnapshot(ctx, c, s.ID, c.opts.Pause)
}

// files reports whether contents can be looked at from here.
func (c *checker) files() bool { return slices.Contains(c.caps.Writers, providers.WriterFile) }

func (c *checker) snapshots(ctx context.Context) error {
	const launch = "snapshots"
	v, err := c.newVolume(ctx, launch)
	if err != nil {
		return err
	}
	// Content at both ends, with a hole between that copies must keep as zeros.
	old, changed := body(1, 300_000), body(2, 300_000)
	end := v.Size - int64(len(old))
	if c.files() {
		if err := errors.Join(c.write(ctx, v.ID, 0, old), c.write(ctx, v.ID, end, old)); err != nil {
			return err
		}
	}
	s, err := c.newSnapshot(ctx, launch, v.ID)
	if err != nil {
		return err
	}
	if !s.Taken || s.Size != v.Size || s.Volume != v.ID || s.Owner.Launch != launch || s.Name == "" || s.Created.IsZero() {
		return fmt.Errorf("snapshot is %+v", s)
	}
	if c.files() {
		if err := c.write(ctx, v.ID, 0, changed); err != nil {
			return err
		}
	}
	larger := v.Size + max(c.caps.VolumeStep, 1<<20)
	var made []providers.Volume
	for _, spec := range []providers.VolumeSpec{
		{From: providers.Source{Kind: providers.FromSnapshot, ID: s.ID}},
		{From: providers.Source{Kind: providers.FromSnapshot, ID: s.ID}, Size: larger},
		{From: providers.Source{Kind: providers.FromSnapshot, ID: s.ID}, Thin: true},
	} {
		spec.Meta, spec.Zone = c.meta(launch), c.zone()
		got, err := c.CreateVolume(ctx, spec)
		if err == nil {
			got, err = providers.AwaitVolume(ctx, c, got.ID, c.opts.Pause)
		}
		if err != nil {
			return err
		}
		if got.Size != max(v.Size, spec.Size) {
			return fmt.Errorf("volume of %d bytes from a snapshot of %d", got.Size, s.Size)
		}
		made = append(made, got)
	}
	copied, err := providers.Clone(ctx, c, v.ID, providers.VolumeSpec{Meta: c.meta(launch), Zone: c.zone()}, c.opts.Pause)
	if err != nil {
		return err
	}
	_, err = c.CreateVolume(ctx, providers.VolumeSpec{Meta: c.meta(launch), From: providers.Source{Kind: providers.FromSnapshot, ID: s.ID}, Size: v.Size / 2})
	if err := wants("a volume smaller than its snapshot", err, providers.ErrInvalid); err != nil {
		return err
	}
	if c.files() {
		err = errors.Join(
			c.holds(ctx, made[0].ID, 0, old), c.holds(ctx, made[0].ID, end, old), c.holds(ctx, made[0].ID, end-4096, make([]byte, 4096)),
			c.holds(ctx, made[1].ID, 0, old), c.holds(ctx, made[1].ID, v.Size, make([]byte, larger-v.Size)),
			c.holds(ctx, copied.ID, 0, changed), c.holds(ctx, copied.ID, end, old))
		if err != nil {
			return err
		}
		// Copies are apart from their source and from each other.
		err = errors.Join(c.write(ctx, made[0].ID, 0, changed), c.holds(ctx, made[1].ID, 0, old), c.write(ctx, copied.ID, end, changed), c.holds(ctx, v.ID, end, old))
		if err != nil {
			return err
		}
	}
	// A snapshot outlives its volume.
	if err := c.DeleteVolume(ctx, v.ID); err != nil {
		return err
	}
	if _, err := c.Snapshot(ctx, s.ID); err != nil {
		return err
	}
	return c.snapshotGoes(ctx, s.ID, made[2].ID)
}

// snapshotGoes removes a snapshot whose blocks a thin volume may share.
func (c *checker) snapshotGoes(ctx context.Context, id, thin string) error {
	if err := c.DeleteSnapshot(ctx, id); err != nil {
		if err := wants("delete a snapshot that a thin volume shares", err, providers.ErrConflict); err != nil {
			return err
		}
		if err := c.DeleteVolume(ctx, thin); err != nil {
			return err
		}
	}
	if err := c.DeleteSnapshot(ctx, id); err != nil {
		return err
	}
	_, err := c.Snapshot(ctx, id)
	return wants("snapshot that was deleted", err, providers.ErrNotFound)
}

// blocks writes snapshots without a volume.
func (c *checker) blocks(ctx context.Context) error {
	w, ok := c.Provider.(providers.SnapshotWriter)
	if !ok || c.caps.SnapshotBlocks == nil {
		return skipped("snapshots are not written by blocks here")
	}
	const launch = "blocks"
	size := int64(c.caps.SnapshotBlocks.Size)
	write := func(parent string, blocks map[int64]byte) (providers.Snapshot, error) {
		spec := providers.BlockSnapshotSpec{Meta: c.meta(launch), Size: 4 * size, Parent: parent}
		s, err := w.BeginSnapshot(ctx, spec)
		if err != nil {
			return s, err
		}
		if again, err := w.BeginSnapshot(ctx, spec); err != nil || again.ID != s.ID {
			return s, fmt.Errorf("the same token: snapshot %q and error %w, want %q", again.ID, orNone(err), s.ID)
		}
		for index, seed := range blocks {
			for range 2 {
				if err := w.PutBlock(ctx, s.ID, index, body(seed, int(size))); err != nil {
					return s, err
				}
			}
		}
		if err := wants("complete with a block too many", w.CompleteSnapshot(ctx, s.ID, int64(len(blocks))+1), providers.ErrConflict); err != nil {
			return s, err
		}
		for range 2 {
			if err := w.CompleteSnapshot(ctx, s.ID, int64(len(blocks))); err != nil {
				return s, err
			}
		}
		return providers.AwaitSnapshot(ctx, c, s.ID, c.opts.Pause)
	}
	first, err := write("", map[int64]byte{0: 1, 2: 2})
	if err != nil {
		return err
	}
	second, err := write(first.ID, map[int64]byte{2: 3})
	if err != nil {
		return err
	}
	if err := wants("put into a complete snapshot", w.PutBlock(ctx, second.ID, 0, body(9, int(size))), providers.ErrConflict); err != nil {
		return err
	}
	v, err := c.CreateVolume(ctx, providers.VolumeSpec{Meta: c.meta(launch), From: providers.Source{Kind: providers.FromSnapshot, ID: second.ID}, Zone: c.zone()})
	if err != nil {
		return err
	}
	if _, err = providers.AwaitVolume(ctx, c, v.ID, c.opts.Pause); err != nil || !c.files() {
		return err
	}
	return errors.Join(c.holds(ctx, v.ID, 0, body(1, int(size))), c.holds(ctx, v.ID, size, make([]byte, size)), c.holds(ctx, v.ID, 2*size, body(3, int(size))))
}
