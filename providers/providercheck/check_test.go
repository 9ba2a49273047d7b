package providercheck_test

import (
	"context"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/memprovider"
	"github.com/openmigrate/openmigrate/providers/providercheck"
)

// Providers that break one promise each. The suite must say so in the part that is named.

type forgetsTokens struct{ providers.Provider }

func (p forgetsTokens) CreateVolume(ctx context.Context, s providers.VolumeSpec) (providers.Volume, error) {
	s.Token = rand.Text()
	return p.Provider.CreateVolume(ctx, s)
}

type forgetsInstanceTokens struct{ providers.Provider }

func (p forgetsInstanceTokens) CreateInstance(ctx context.Context, s providers.InstanceSpec) (providers.Instance, error) {
	for _, d := range s.Disks {
		if v, err := p.Volume(ctx, d.From.ID); err == nil && v.Instance != "" {
			return p.Instance(ctx, v.Instance) // of that disk, whatever was asked for
		}
	}
	return p.Provider.CreateInstance(ctx, s)
}

type hidesSnapshots struct{ providers.Provider }

func (p hidesSnapshots) List(ctx context.Context, system string) ([]providers.Resource, error) {
	all, err := p.Provider.List(ctx, system)
	return slices.DeleteFunc(all, func(r providers.Resource) bool { return r.Kind == providers.KindSnapshot }), err
}

type mixesOwners struct{ providers.Provider }

func (p mixesOwners) CreateVolume(ctx context.Context, s providers.VolumeSpec) (providers.Volume, error) {
	s.Owner.Launch = "alive"
	return p.Provider.CreateVolume(ctx, s)
}

type mindsTheGone struct{ providers.Provider }

func (p mindsTheGone) TerminateInstance(ctx context.Context, id string) error {
	if i, err := p.Instance(ctx, id); err != nil || i.State == providers.StateTerminated {
		return providers.ErrNotFound
	}
	return p.Provider.TerminateInstance(ctx, id)
}

type ignoresNetworks struct{ providers.Provider }

func (p ignoresNetworks) CreateInstance(ctx context.Context, s providers.InstanceSpec) (providers.Instance, error) {
	s.NICs = slices.Clone(s.NICs)
	for i := range s.NICs {
		s.NICs[i].Network = memprovider.Production
	}
	return p.Provider.CreateInstance(ctx, s)
}

type keepsDisks struct{ providers.Provider }

func (p keepsDisks) CreateInstance(ctx context.Context, s providers.InstanceSpec) (providers.Instance, error) {
	s.Disks = slices.Clone(s.Disks)
	for i := range s.Disks {
		s.Disks[i].Delete = false
	}
	return p.Provider.CreateInstance(ctx, s)
}

type copiesLate struct {
	providers.Provider
	of map[string]string // volume by snapshot
}

func (p copiesLate) CreateVolume(ctx context.Context, s providers.VolumeSpec) (providers.Volume, error) {
	if v, ok := p.of[s.From.ID]; ok {
		s.From = providers.Source{Kind: providers.FromVolume, ID: v}
	}
	return p.Provider.CreateVolume(ctx, s)
}

func (p copiesLate) CreateSnapshot(ctx context.Context, s providers.SnapshotSpec) (providers.Snapshot, error) {
	got, err := p.Provider.CreateSnapshot(ctx, s)
	p.of[got.ID] = s.Volume
	return got, err
}

type trustsNames struct{ providers.Provider }

func (p trustsNames) CreateVolume(ctx context.Context, s providers.VolumeSpec) (providers.Volume, error) {
	s.Name = ""
	return p.Provider.CreateVolume(ctx, s)
}

func TestCatchesBrokenPromises(t *testing.T) {
	for name, x := range map[string]struct {
		broken func(providers.Provider) providers.Provider
		part   string
	}{
		"forgets tokens":           {func(p providers.Provider) providers.Provider { return forgetsTokens{p} }, "tokens"},
		"forgets tokens, faults":   {func(p providers.Provider) providers.Provider { return forgetsTokens{p} }, "lost answers of volumes"},
		"forgets instances' specs": {func(p providers.Provider) providers.Provider { return forgetsInstanceTokens{p} }, "instances"},
		"hides snapshots":          {func(p providers.Provider) providers.Provider { return hidesSnapshots{p} }, "tokens"},
		"mixes owners":             {func(p providers.Provider) providers.Provider { return mixesOwners{p} }, "volumes"},
		"minds the gone":           {func(p providers.Provider) providers.Provider { return mindsTheGone{p} }, "instances"},
		"ignores networks":         {func(p providers.Provider) providers.Provider { return ignoresNetworks{p} }, "bad instances"},
		"keeps disks":              {func(p providers.Provider) providers.Provider { return keepsDisks{p} }, "instances"},
		"copies late":              {func(p providers.Provider) providers.Provider { return copiesLate{p, map[string]string{}} }, "snapshots and clones"},
		"trusts names":             {func(p providers.Provider) providers.Provider { return trustsNames{p} }, "bad input"},
	} {
		t.Run(name, func(t *testing.T) {
			p := x.broken(memprovider.New(&memprovider.Options{Dir: t.TempDir()}))
			caught := false
			opts := &providercheck.Options{Pause: time.Microsecond, Timeout: 2 * time.Second, Stories: 1}
			providercheck.Check(t.Context(), p, opts, func(r providercheck.Result) {
				caught = caught || r.Name == x.part && r.Err != nil
			})
			if !caught {
				t.Errorf("part %q does not say so", x.part)
			}
		})
	}
}

func TestLeavesNothing(t *testing.T) {
	p := memprovider.New(nil)
	opts := &providercheck.Options{System: "mine", Pause: time.Microsecond}
	providercheck.Check(t.Context(), p, opts, func(r providercheck.Result) {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Name, r.Err)
		}
	})
	if left, err := p.List(t.Context(), "mine"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
