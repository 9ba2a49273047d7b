package providercheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"

	"github.com/openmigrate/openmigrate/providers"
)

// disks makes what an instance can be made from.
func (c *checker) disks(ctx context.Context, launch string, n int, del bool) ([]providers.Disk, error) {
	var disks []providers.Disk
	for range n {
		v, err := c.newVolume(ctx, launch)
		if err != nil {
			return nil, err
		}
		from := providers.Source{Kind: providers.FromVolume, ID: v.ID}
		if !c.caps.CanMakeInstanceFrom(providers.FromVolume) {
			s, err := c.newSnapshot(ctx, launch, v.ID)
			if err != nil {
				return nil, err
			}
			from = providers.Source{Kind: providers.FromSnapshot, ID: s.ID}
		}
		disks = append(disks, providers.Disk{From: from, Delete: del})
	}
	return disks, nil
}

func (c *checker) spec(launch string, disks []providers.Disk) providers.InstanceSpec {
	return providers.InstanceSpec{Meta: c.meta(launch), Type: c.typ.ID, Architecture: c.typ.Architectures[0], Firmware: c.typ.Firmware[0],
		Disks: disks, Boot: len(disks) - 1, NICs: []providers.NIC{{Network: c.opts.Network}}}
}

// newInstance makes a machine of empty disks and waits until it runs.
func (c *checker) newInstance(ctx context.Context, launch string, disks int, del bool) (providers.Instance, error) {
	d, err := c.disks(ctx, launch, disks, del)
	if err != nil {
		return providers.Instance{}, err
	}
	i, err := c.CreateInstance(ctx, c.spec(launch, d))
	if err != nil {
		return i, err
	}
	return providers.AwaitInstance(ctx, c, i.ID, providers.StateRunning, c.opts.Pause)
}

func (c *checker) machines() error {
	if c.opts.NoInstances {
		return skipped("instances are left out")
	}
	return nil
}

func (c *checker) instances(ctx context.Context) error {
	if err := c.machines(); err != nil {
		return err
	}
	const launch = "instances"
	disks, err := c.disks(ctx, launch, 2, true)
	if err != nil {
		return err
	}
	spec := c.spec(launch, disks)
	made, err := c.CreateInstance(ctx, spec)
	if err != nil {
		return err
	}
	again, err := c.CreateInstance(ctx, spec)
	if err != nil || again.ID != made.ID {
		return fmt.Errorf("the same token: instance %q and error %w, want %q", again.ID, orNone(err), made.ID)
	}
	other := spec
	other.Boot = 0
	_, err = c.CreateInstance(ctx, other)
	if err := wants("the token with another boot disk", err, providers.ErrConflict); err != nil {
		return err
	}
	i, err := providers.AwaitInstance(ctx, c, made.ID, providers.StateRunning, c.opts.Pause)
	if err != nil {
		return err
	}
	if i.Owner != spec.Owner || i.Name != spec.Name || i.Tags["purpose"] != spec.Tags["purpose"] || i.Type != spec.Type || i.Firmware != spec.Firmware ||
		i.Bus == "" || len(i.NICs) != 1 || i.NICs[0].Network != c.opts.Network || i.NICs[0].MAC == "" || i.Created.IsZero() {
		return fmt.Errorf("instance is %+v", i)
	}
	if err := c.ownDisks(ctx, i, disks); err != nil {
		return err
	}
	if err := c.count(ctx, providers.KindInstance, launch, 1); err != nil {
		return err
	}
	for range 2 {
		if err := c.StartInstance(ctx, i.ID); err != nil { // it runs
			return err
		}
	}
	return c.terminate(ctx, i)
}

// ownDisks looks at the volumes of an instance whose last disk boots.
func (c *checker) ownDisks(ctx context.Context, i providers.Instance, disks []providers.Disk) error {
	if len(i.Disks) != len(disks) {
		return fmt.Errorf("instance has %d disks, want %d", len(i.Disks), len(disks))
	}
	for n, d := range i.Disks {
		if d.Delete != disks[n].Delete || d.Boot != (n == len(disks)-1) || disks[n].From.Kind == providers.FromVolume && d.Volume != disks[n].From.ID {
			return fmt.Errorf("disk %d of the instance is %+v, want %+v", n, d, disks[n])
		}
		v, err := c.Volume(ctx, d.Volume)
		if err != nil {
			return err
		}
		if v.Instance != i.ID || v.Owner != i.Owner {
			return fmt.Errorf("volume %s of the instance says instance %q, owner %v", v.ID, v.Instance, v.Owner)
		}
		if err := wants("delete a disk of an instance", c.DeleteVolume(ctx, v.ID), providers.ErrConflict); err != nil {
			return err
		}
	}
	return nil
}

// terminate removes an instance, twice, and looks at its disks.
func (c *checker) terminate(ctx context.Context, i providers.Instance) error {
	for range 2 {
		if err := c.TerminateInstance(ctx, i.ID); err != nil {
			return err
		}
	}
	if _, err := providers.AwaitInstance(ctx, c, i.ID, providers.StateTerminated, c.opts.Pause); err != nil {
		return err
	}
	if err := c.TerminateInstance(ctx, i.ID); err != nil {
		return err
	}
	for _, d := range i.Disks {
		v, err := providers.Await(ctx, c.opts.Pause, func(ctx context.Context) (providers.Volume, error) { return c.Volume(ctx, d.Volume) },
			func(v providers.Volume) (bool, error) { return !d.Delete && v.Instance == "", nil })
		if d.Delete {
			if err := wants("disk that goes with its instance", err, providers.ErrNotFound); err != nil {
				return err
			}
			continue
		}
		if err != nil || v.State != providers.StateAvailable {
			return fmt.Errorf("disk %s that is kept: %s, %w", d.Volume, v.State, orNone(err))
		}
	}
	return c.count(ctx, providers.KindInstance, i.Owner.Launch, 0)
}

func (c *checker) keptDisks(ctx context.Context) error {
	if err := c.machines(); err != nil {
		return err
	}
	i, err := c.newInstance(ctx, "kept", 1, false)
	if err != nil {
		return err
	}
	if err := c.terminate(ctx, i); err != nil {
		return err
	}
	return c.DeleteVolume(ctx, i.Disks[0].Volume)
}

func (c *checker) stopStart(ctx context.Context) error {
	if err := c.machines(); err != nil {
		return err
	}
	i, err := c.newInstance(ctx, "stop", 1, true)
	if err != nil {
		return err
	}
	for range 2 {
		// Nothing runs in it that would answer a power button.
		if err := c.StopInstance(ctx, i.ID, true); err != nil {
			return err
		}
	}
	if _, err := providers.AwaitInstance(ctx, c, i.ID, providers.StateStopped, c.opts.Pause); err != nil {
		return err
	}
	if c.caps.Screenshot {
		_, err := c.Screenshot(ctx, i.ID)
		if err := wants("screenshot of a stopped machine", err, providers.ErrConflict); err != nil {
			return err
		}
	}
	if err := c.StopInstance(ctx, i.ID, false); err != nil {
		return err
	}
	if err := c.StartInstance(ctx, i.ID); err != nil {
		return err
	}
	got, err := providers.AwaitInstance(ctx, c, i.ID, providers.StateRunning, c.opts.Pause)
	if err != nil {
		return err
	}
	if got.NICs[0].MAC != i.NICs[0].MAC {
		return fmt.Errorf("the network card %s is %s after a stop", i.NICs[0].MAC, got.NICs[0].MAC)
	}
	return c.terminate(ctx, i)
}

func (c *checker) console(ctx context.Context) error {
	if err := c.machines(); err != nil {
		return err
	}
	i, err := c.newInstance(ctx, "console", 1, true)
	if err != nil {
		return err
	}
	if text, err := c.Console(ctx, i.ID); c.caps.Console && (err != nil || len(text) > providers.ConsoleLimit) {
		return fmt.Errorf("console: %d bytes, %w", len(text), orNone(err))
	}
	if !c.caps.Screenshot {
		return nil
	}
	b, err := c.Screenshot(ctx, i.ID)
	if err != nil {
		return err
	}
	picture, err := png.DecodeConfig(bytes.NewReader(b))
	if err != nil || picture.Width < 80 || picture.Height < 25 || len(b) > providers.ScreenshotLimit {
		return fmt.Errorf("screenshot of %d bytes, %d by %d: %w", len(b), picture.Width, picture.Height, orNone(err))
	}
	return nil
}

// badInstances asks for machines that cannot be. Nothing may be there afterwards, and the disks are as they were.
func (c *checker) badInstances(ctx context.Context) error {
	if err := c.machines(); err != nil {
		return err
	}
	const launch = "bad"
	disks, err := c.disks(ctx, launch, 1, true)
	if err != nil {
		return err
	}
	absent := providers.Source{Kind: disks[0].From.Kind, ID: "no-such-disk-0000"}
	for _, x := range []struct {
		what  string
		class error
		spoil func(*providers.InstanceSpec)
	}{
		{"unknown network", providers.ErrNotFound, func(s *providers.InstanceSpec) { s.NICs[0].Network = "no-such-network" }},
		{"second network unknown", providers.ErrNotFound, func(s *providers.InstanceSpec) { s.NICs = append(s.NICs, providers.NIC{Network: "no-such-network"}) }},
		{"unknown type", providers.ErrNotFound, func(s *providers.InstanceSpec) { s.Type = "no-such-type" }},
		{"unknown disk", providers.ErrNotFound, func(s *providers.InstanceSpec) { s.Disks[0].From = absent }},
		{"second disk unknown", providers.ErrNotFound, func(s *providers.InstanceSpec) { s.Disks = append(s.Disks, providers.Disk{From: absent}) }},
		{"no disk", providers.ErrInvalid, func(s *providers.InstanceSpec) { s.Disks = nil }},
		{"boot disk out of range", providers.ErrInvalid, func(s *providers.InstanceSpec) { s.Boot = 1 }},
		{"unknown firmware", providers.ErrInvalid, func(s *providers.InstanceSpec) { s.Firmware = "coreboot" }},
		{"unknown bus", providers.ErrInvalid, func(s *providers.InstanceSpec) { s.Bus = "floppy,id=evil" }},
		{"unknown architecture", providers.ErrInvalid, func(s *providers.InstanceSpec) { s.Architecture = "z80" }},
		{"bad MAC", providers.ErrInvalid, func(s *providers.InstanceSpec) { s.NICs[0].MAC = "02:00,id=evil" }},
		{"group MAC", providers.ErrInvalid, func(s *providers.InstanceSpec) { s.NICs[0].MAC = "01:00:00:00:00:01" }},
		{"port 0", providers.ErrInvalid, func(s *providers.InstanceSpec) { s.NICs[0].Forward = []uint16{0} }},
		{"unknown setting", providers.ErrInvalid, func(s *providers.InstanceSpec) { s.Settings = map[string]string{"no-such-setting": "x"} }},
	} {
		spec := c.spec(launch, []providers.Disk{disks[0]})
		spec.Boot = 0
		x.spoil(&spec)
		_, err := c.CreateInstance(ctx, spec)
		if err := wants(x.what, err, x.class); err != nil {
			return err
		}
	}
	// What was refused left no hold on the disk.
	i, err := c.CreateInstance(ctx, c.spec(launch, disks))
	if err != nil {
		return err
	}
	if disks[0].From.Kind == providers.FromVolume {
		second := c.spec(launch, disks)
		_, err := c.CreateInstance(ctx, second)
		err = errors.Join(wants("a second machine on the same volume", err, providers.ErrConflict),
			wants("attach the disk of a machine", c.AttachVolume(ctx, disks[0].From.ID, ""), providers.ErrConflict))
		if err != nil {
			return err
		}
	}
	if err := c.count(ctx, providers.KindInstance, launch, 1); err != nil {
		return err
	}
	return c.TerminateInstance(ctx, i.ID)
}
