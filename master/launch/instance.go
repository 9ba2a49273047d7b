package launch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// starting: a machine with the launch's volumes.
func starting(ctx context.Context, r *run) (string, error) {
	if err := r.served(ctx); err != nil {
		return "", err
	}
	if r.row.Instance == "" {
		if ready, err := r.snapshots(ctx); err != nil || !ready {
			return "", err
		}
		i, err := r.p.CreateInstance(ctx, r.row.instance(r.System))
		if err != nil {
			return "", fmt.Errorf("start the machine: %w", err)
		}
		if err := r.save(ctx, func(l *row) { l.Instance = i.ID }); err != nil {
			return "", err
		}
	}
	i, err := r.alive(ctx)
	if err != nil || i.State != providers.StateRunning {
		return "", err
	}
	return wire.LaunchChecking, r.save(ctx, func(l *row) {
		l.Started = r.Clock.Now()
		l.reached(&i)
	})
}

// alive returns the launch's instance, or refuses when it will not come up any more.
func (r *run) alive(ctx context.Context) (providers.Instance, error) {
	i, err := r.p.Instance(ctx, r.row.Instance)
	if errors.Is(err, providers.ErrNotFound) {
		return i, refuse("the machine is gone: somebody removed instance %s at the provider", r.row.Instance)
	}
	if err != nil {
		return i, err
	}
	switch i.State {
	case providers.StateFailed:
		return i, refuse("the machine failed: %s", orUnknown(i.Reason))
	case providers.StateStopping, providers.StateStopped:
		return i, refuse("the machine stopped by itself: %s", orUnknown(i.Reason))
	case providers.StateTerminating, providers.StateTerminated:
		return i, refuse("the machine is gone: instance %s was terminated", i.ID)
	}
	return i, nil
}

func orUnknown(reason string) string {
	if reason == "" {
		return "the provider does not say why"
	}
	return reason
}

// reached notes where the machine's ports are.
func (r *row) reached(i *providers.Instance) {
	var ports []uint16
	ports = append(ports, r.Plan.Forward...)
	for _, c := range r.Checks {
		if c.Port != 0 && !slices.Contains(ports, c.Port) {
			ports = append(ports, c.Port)
		}
	}
	r.Endpoints = nil
	for _, port := range ports {
		if at, ok := r.endpoint(i, port); ok {
			r.Endpoints = append(r.Endpoints, wire.LaunchEndpoint{Port: port, Address: at})
		}
	}
}

// endpoint is where a port of the machine is reached: as the provider says, else at the address that its system was given.
func (r *row) endpoint(i *providers.Instance, port uint16) (string, bool) {
	if at, ok := i.Endpoint(port); ok {
		return at, true
	}
	if a := r.Template.Address; a != nil {
		return addrPort(a.Prefixes[0].Addr(), port), true
	}
	return "", false
}

// instance asks for the launch's machine.
func (r *row) instance(system string) providers.InstanceSpec {
	nic := providers.NIC{Network: r.Plan.Network, Groups: r.Plan.Groups, MAC: r.Plan.MAC, Address: r.Plan.Address, Forward: r.Plan.Forward}
	spec := providers.InstanceSpec{
		Meta: r.meta(system, r.token("machine"), -1), Type: r.Plan.Type, Architecture: r.Plan.Architecture, Firmware: r.Plan.Firmware, Bus: r.Plan.Bus,
		Boot: r.Plan.Boot, NICs: []providers.NIC{nic}, Settings: r.Plan.InstanceSettings,
	}
	for _, d := range r.Disks {
		from := providers.Source{Kind: providers.FromVolume, ID: d.Volume}
		if r.Plan.FromSnapshots {
			from = providers.Source{Kind: providers.FromSnapshot, ID: d.Snapshot}
		}
		spec.Disks = append(spec.Disks, providers.Disk{From: from, Delete: true})
	}
	return spec
}

// snapshots makes one of each volume, where machines are made from those.
func (r *run) snapshots(ctx context.Context) (bool, error) {
	ready := true
	if !r.row.Plan.FromSnapshots {
		return true, nil
	}
	for n, d := range r.row.Disks {
		ok, err := r.snapshot(ctx, n, d.Volume, r.row.numbered("snap", n), func(d *disk) *string { return &d.Snapshot })
		if err != nil {
			return false, fmt.Errorf("disk %d: %w", n, err)
		}
		ready = ready && ok
	}
	return ready, nil
}

// snapshot makes a snapshot for one disk of the launch, notes its id in a field of that, and reports whether it is there.
func (r *run) snapshot(ctx context.Context, n int, volume, token string, field func(*disk) *string) (bool, error) {
	id := *field(&r.row.Disks[n])
	if id == "" {
		made, err := r.p.CreateSnapshot(ctx, providers.SnapshotSpec{Meta: r.row.meta(r.System, token, n), Volume: volume})
		if err != nil {
			return false, err
		}
		id = made.ID
		if err := r.save(ctx, func(l *row) { *field(&l.Disks[n]) = id }); err != nil {
			return false, err
		}
	}
	s, err := r.p.Snapshot(ctx, id)
	if err != nil {
		return false, err
	}
	if s.State == providers.StateFailed {
		return false, refuse("snapshot %s failed at the provider: %s", id, s.Reason)
	}
	return s.State == providers.StateAvailable, nil
}
