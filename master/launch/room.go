package launch

import (
	"context"
	"fmt"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// spareRoom is what conversion and a machine that runs for a while add to a disk, beside an eighth of what it holds. In bytes.
const spareRoom = 512 << 20

// expected is how much of a volume is expected to be filled, by how much of the disk is: never more than all of it.
func expected(data, size int64) int64 { return max(1, min(data+data/8+spareRoom, size)) }

// dataOf is what a measurement says, by the ids of disks. What it leaves out, or cannot be, is not known.
func dataOf(p *catalog.Restpoint, measured *wire.JobResult) map[string]int64 {
	data := map[string]int64{}
	for n, d := range p.Disks {
		if measured != nil && n < len(measured.Data) && measured.Data[n] >= 0 && measured.Data[n] <= d.Size {
			data[d.ID] = measured.Data[n]
		}
	}
	return data
}

// volume asks for the launch's own volume for one of its disks. Places that allocate as it is written keep room for what the disk holds, not for its size.
func (r *row) volume(system string, n int) providers.VolumeSpec {
	d := &r.Disks[n]
	spec := providers.VolumeSpec{Meta: r.meta(system, r.numbered("v", n), n), Size: r.Plan.sizes(n, d.Size), Zone: r.Plan.Zone, Settings: r.Plan.VolumeSettings}
	if data, known := r.Data[d.ID]; known {
		spec.Filled = expected(data, spec.Size)
	}
	return spec
}

// checkRoom refuses, before anything is made and before a source stops, what the provider has no room for.
func (r *run) checkRoom(ctx context.Context, p *catalog.Restpoint) error {
	room, ok := r.p.(providers.RoomChecker)
	if !ok {
		return nil
	}
	l := r.row
	l.setDisks(p)
	standing, err := r.warmOf(ctx, l.Machine)
	if err != nil {
		return err
	}
	var specs []providers.VolumeSpec
	for n, d := range l.Disks {
		spec := l.volume(r.System, n)
		if at := standing.find(d.ID, d.Size); l.Warm && standing.Provider == l.Provider && at >= 0 && standing.Disks[at].Volume != "" {
			spec.From = providers.Source{Kind: providers.FromVolume, ID: standing.Disks[at].Volume}
		}
		specs = append(specs, spec)
	}
	if err := room.CheckRoom(ctx, specs, l.instance(r.System)); err != nil {
		return fmt.Errorf("ask provider %s for room: %w", l.Provider, err)
	}
	return nil
}

// checkMemory refuses at once a machine that the provider has no room to run.
func (s *Service) checkMemory(ctx context.Context, l *row) error {
	p, err := s.provider(l.Provider)
	if err != nil {
		return err
	}
	room, ok := p.(providers.RoomChecker)
	if !ok {
		return nil
	}
	if err := room.CheckRoom(ctx, nil, l.instance(s.System)); err != nil {
		return fmt.Errorf("ask provider %s for room: %w", l.Provider, err)
	}
	return nil
}
