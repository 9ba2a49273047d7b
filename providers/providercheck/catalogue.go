package providercheck

import (
	"context"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/providers"
)

func (c *checker) catalogue(ctx context.Context) error {
	caps, err := c.Capabilities(ctx)
	if err != nil {
		return err
	}
	c.caps = caps
	switch {
	case caps.Provider == "":
		err = errors.New("it has no name")
	case caps.MinVolume < 0 || caps.MaxVolume < caps.MinVolume || caps.MaxVolume == 0 || caps.VolumeStep < 1:
		err = fmt.Errorf("volumes of %d to %d bytes in steps of %d", caps.MinVolume, caps.MaxVolume, caps.VolumeStep)
	case !caps.CanMakeVolumeFrom(providers.FromNothing) || !caps.CanMakeVolumeFrom(providers.FromSnapshot):
		err = fmt.Errorf("volumes are made from %q", caps.VolumeSources)
	case len(caps.InstanceSources) == 0 || caps.CanMakeInstanceFrom(providers.FromNothing):
		err = fmt.Errorf("instances are made from %q", caps.InstanceSources)
	case caps.MaxDisks < 1 || caps.MaxNICs < 1:
		err = fmt.Errorf("instances have up to %d disks and %d network cards", caps.MaxDisks, caps.MaxNICs)
	}
	if err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if _, ok := c.Provider.(providers.SnapshotWriter); caps.SnapshotBlocks != nil && !ok {
		return errors.New("capabilities name snapshots by blocks, and it is no SnapshotWriter")
	}
	if _, ok := c.Provider.(providers.LazyVolumes); caps.Lazy && !ok {
		return errors.New("capabilities name lazy volumes, and it is no LazyVolumes")
	}
	if err := c.types(ctx); err != nil {
		return err
	}
	return c.networks(ctx)
}

func (c *checker) types(ctx context.Context) error {
	types, err := c.InstanceTypes(ctx)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, t := range types {
		if t.ID == "" || seen[t.ID] || t.CPUs < 1 || t.Memory < 1<<20 || len(t.Architectures) == 0 || len(t.Firmware) == 0 || len(t.Buses) == 0 || t.Platform == "" {
			return fmt.Errorf("instance type %+v is incomplete, or named twice", t)
		}
		if seen[t.ID] = true; t.ID == c.opts.Type {
			c.typ = t
		}
	}
	if c.opts.Type == "" {
		c.typ, err = providers.Pick(types, providers.Need{})
	} else if c.typ.ID == "" {
		err = fmt.Errorf("there is no type %q among %d", c.opts.Type, len(types))
	}
	return err
}

func (c *checker) networks(ctx context.Context) error {
	networks, err := c.Networks(ctx)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, n := range networks {
		if n.ID == "" || seen[n.ID] {
			return fmt.Errorf("network %+v has no id, or that of another", n)
		}
		if seen[n.ID] = true; c.opts.Network == "" && n.Isolated {
			c.opts.Network = n.ID
		}
	}
	if c.opts.Network == "" && len(networks) > 0 {
		c.opts.Network = networks[0].ID
	}
	if !seen[c.opts.Network] {
		return fmt.Errorf("there is no network %q among %d", c.opts.Network, len(networks))
	}
	return nil
}

// absent asks for what is not there. The ids look like nothing that a provider makes.
func (c *checker) absent(ctx context.Context) error {
	const id = "no-such-id-0000"
	_, volume := c.Volume(ctx, id)
	_, snapshot := c.Snapshot(ctx, id)
	_, instance := c.Instance(ctx, id)
	_, console := c.Console(ctx, id)
	meta := c.meta("absent")
	_, from := c.CreateVolume(ctx, providers.VolumeSpec{Meta: meta, From: providers.Source{Kind: providers.FromSnapshot, ID: id}})
	_, of := c.CreateSnapshot(ctx, providers.SnapshotSpec{Meta: meta, Volume: id})
	for _, x := range []struct {
		what string
		err  error
	}{
		{"volume", volume}, {"snapshot", snapshot}, {"instance", instance}, {"console", console}, {"volume from a snapshot", from},
		{"snapshot of a volume", of}, {"attach", c.AttachVolume(ctx, id, "")}, {"start", c.StartInstance(ctx, id)}, {"stop", c.StopInstance(ctx, id, true)},
	} {
		if err := wants(x.what, x.err, providers.ErrNotFound); err != nil {
			return err
		}
	}
	return errors.Join(c.DetachVolume(ctx, id), c.DeleteVolume(ctx, id), c.DeleteSnapshot(ctx, id), c.TerminateInstance(ctx, id),
		c.count(ctx, providers.KindVolume, "absent", 0))
}

func (c *checker) ended(ctx context.Context) error {
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err := c.CreateVolume(over, providers.VolumeSpec{Meta: c.meta("ended"), Size: c.opts.VolumeSize})
	_, list := c.List(over, c.opts.System)
	return errors.Join(wants("create volume", err, context.Canceled), wants("list", list, context.Canceled))
}
