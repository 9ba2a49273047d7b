package hydrator

import (
	"context"

	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/hydrator/volume"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// verify reads everything that a restpoint's disks need and checks every id: a restore onto nothing. disk limits it to
// one. It goes through all disks, also after damage.
func verify(ctx context.Context, r *reader.Reader, rp *format.Restpoint, disk *int, show func(wire.Progress)) (wire.JobResult, error) {
	var total wire.JobResult
	var damage error
	for i := range rp.Disks {
		if disk != nil && *disk != i {
			continue
		}
		a := newApplier(r, &sink{}, &memory{}, rp, &rp.Disks[i], restoreOptions{progress: func(p wire.Progress) {
			p.Phase = "verifying"
			show(p)
		}})
		if _, err := a.begin(nil); err != nil {
			return total, err
		}
		res, err := a.run(ctx, false)
		total.Chunks += res.Chunks
		total.Bytes += res.Bytes
		total.Fetched += res.Fetched
		total.Damaged += res.Damaged
		if err != nil && res.Damaged == 0 {
			return total, err
		}
		if damage == nil {
			damage = err
		}
	}
	return total, damage
}

// sink is a target that forgets what is written to it.
type sink struct{ size int64 }

func (s *sink) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (s *sink) ReadAt(b []byte, _ int64) (int, error)  { clear(b); return len(b), nil }
func (s *sink) Path() string                           { return "nothing" }
func (s *sink) Device() bool                           { return false }
func (s *sink) Fresh() bool                            { return true }
func (s *sink) Size() int64                            { return s.size }
func (s *sink) Empty() error                           { return nil }
func (s *sink) Identity() (volume.Identity, error)     { return volume.Identity{Size: s.size}, nil }
func (s *sink) SetSize(size int64) error               { s.size = size; return nil }
func (s *sink) Zero(int64, int64) error                { return nil }
func (s *sink) StartSync()                             {}
func (s *sink) Sync() error                            { return nil }

// memory is a ledger that survives nothing: there is nothing to find again.
type memory struct{ state journal.State }

func (m *memory) Found() bool          { return m.state.To != nil }
func (m *memory) State() journal.State { return m.state }

func (m *memory) Begin(v volume.Identity, to journal.Content, unknown bool) error {
	m.state = journal.State{Volume: v, To: &to, Unknown: unknown}
	return nil
}

func (m *memory) BeginFresh(v volume.Identity, to journal.Content) error {
	m.state = journal.State{Volume: v, To: &to, Over: []journal.Content{to.Zeroed()}}
	return nil
}

func (m *memory) Advance(done int64) error     { m.state.Done = done; return nil }
func (m *memory) Forget() error                { m.state.Unknown, m.state.Over = true, nil; return nil }
func (m *memory) Finish(volume.Identity) error { return nil }
