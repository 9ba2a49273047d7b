package launch

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/memprovider"
	"github.com/openmigrate/openmigrate/wire"
)

// smallPlace has room for so many bytes of data, and for machines of so much memory.
type smallPlace struct {
	*memprovider.Provider
	disk   int64
	memory bool // for a machine
	made   []providers.VolumeSpec
}

func (p *smallPlace) CheckRoom(_ context.Context, volumes []providers.VolumeSpec, i providers.InstanceSpec) error {
	if i.Type == "" || !p.memory {
		return fmt.Errorf("%w: no memory for a machine of type %s; stop another", providers.ErrQuota, i.Type)
	}
	need := int64(0)
	for _, v := range volumes {
		if v.From.Kind == providers.FromNothing {
			need += v.Filled
		}
	}
	if need > p.disk {
		return fmt.Errorf("%w: %d bytes are left, and this needs %d", providers.ErrQuota, p.disk, need)
	}
	return nil
}

func (p *smallPlace) CreateVolume(ctx context.Context, spec providers.VolumeSpec) (providers.Volume, error) {
	p.made = append(p.made, spec)
	return p.Provider.CreateVolume(ctx, spec)
}

// TestRoom: what a place has no room for is refused before anything is made and before a source stops.
func TestRoom(t *testing.T) {
	fast(t)
	for name, tt := range map[string]struct {
		disk   int64
		memory bool
		data   []int64
		want   string // of the refusal
	}{
		"room":      {1 << 20, true, []int64{4096, 0}, ""},
		"full":      {4095, true, []int64{4096, 0}, "4095 bytes are left"},
		"unknown":   {4095, true, nil, ""}, // the create says
		"nonsense":  {4095, true, []int64{-1, 1 << 40}, ""},
		"no memory": {1 << 20, false, []int64{1, 1}, "no memory for a machine"},
	} {
		for _, kind := range []string{wire.LaunchTest, wire.LaunchCutover} {
			t.Run(name+" "+kind, func(t *testing.T) {
				w := newWorld(t, memprovider.Host)
				place := &smallPlace{Provider: w.mem, disk: tt.disk, memory: tt.memory}
				w.p, w.data = place, tt.data
				w.restart()
				l, err := w.try(wire.LaunchRequest{Kind: kind})
				if !tt.memory {
					if !wire.HasCode(err, wire.CodeConflict) || !strings.Contains(err.Error(), tt.want) {
						t.Errorf("%v, want %q", err, tt.want)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				info := w.until(l.ID, wire.LaunchRunning, wire.LaunchFailed)
				if tt.want == "" {
					if info.State != wire.LaunchRunning {
						t.Errorf("%+v", info.Failure)
					}
					return
				}
				if f := info.Failure; f == nil || f.Step != wire.LaunchPending || !strings.Contains(f.Reason, tt.want) {
					t.Errorf("%s, %+v", info.State, f)
				}
				if len(place.made) > 0 || len(w.resources()) > 0 || w.machine().Hold != nil || len(w.holdSaid) > 0 {
					t.Errorf("made %v, left %v, hold %v, %v", place.made, w.resources(), w.machine().Hold, w.holdSaid)
				}
			})
		}
	}
}

// TestFilled: a disk needs room for what it holds and a little more, and not for its size.
func TestFilled(t *testing.T) {
	const gib = 1 << 30
	l := row{Disks: []disk{{ID: "sparse", Size: 1024 * gib}, {ID: "full", Size: 10 * gib}, {ID: "unknown", Size: 5 * gib}, {ID: "empty", Size: gib / 4}},
		Data: map[string]int64{"sparse": 8 * gib, "full": 10 * gib, "empty": 0}}
	for n, want := range []int64{9*gib + spareRoom, 10 * gib, 0, gib / 4} {
		if v := l.volume("s", n); v.Filled != want || v.Size != l.Disks[n].Size {
			t.Errorf("disk %s: %d of %d bytes, want %d", l.Disks[n].ID, v.Filled, v.Size, want)
		}
	}
}
