package providercheck

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/fault"
)

// try makes a call fail once before the work and once after it, and then repeats it: as a master does whose connection breaks.
func try(f *fault.Provider, op string, do func() error) error {
	for _, after := range []bool{false, true} {
		f.Set(fault.Rule{Op: op, After: after})
		if err := wants(op+" with a fault", do(), providers.ErrTryAgain); err != nil {
			return err
		}
		if err := do(); err != nil {
			return fmt.Errorf("%s again after a fault (work done: %v): %w", op, after, err)
		}
	}
	f.Set()
	return nil
}

func (c *checker) lostVolumes(ctx context.Context) error {
	const launch = "lost"
	f := fault.New(c.Provider)
	var v providers.Volume
	spec := providers.VolumeSpec{Meta: c.meta(launch), Size: c.opts.VolumeSize, Zone: c.zone()}
	err := try(f, "CreateVolume", func() (err error) {
		if v, err = f.CreateVolume(ctx, spec); err == nil {
			v, err = providers.AwaitVolume(ctx, c, v.ID, c.opts.Pause)
		}
		return err
	})
	if err != nil {
		return err
	}
	var s providers.Snapshot
	snap := providers.SnapshotSpec{Meta: c.meta(launch), Volume: v.ID}
	err = try(f, "CreateSnapshot", func() (err error) {
		if s, err = f.CreateSnapshot(ctx, snap); err == nil {
			s, err = providers.AwaitSnapshot(ctx, c, s.ID, c.opts.Pause)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = errors.Join(c.count(ctx, providers.KindVolume, launch, 1), c.count(ctx, providers.KindSnapshot, launch, 1))
	if err == nil && c.files() {
		err = errors.Join(try(f, "AttachVolume", func() error { return f.AttachVolume(ctx, v.ID, "") }),
			try(f, "DetachVolume", func() error { return f.DetachVolume(ctx, v.ID) }))
	}
	if err != nil {
		return err
	}
	return errors.Join(try(f, "DeleteSnapshot", func() error { return f.DeleteSnapshot(ctx, s.ID) }),
		try(f, "DeleteVolume", func() error { return f.DeleteVolume(ctx, v.ID) }))
}

func (c *checker) lostInstances(ctx context.Context) error {
	if err := c.machines(); err != nil {
		return err
	}
	const launch = "lost"
	f := fault.New(c.Provider)
	disks, err := c.disks(ctx, launch, 1, true)
	if err != nil {
		return err
	}
	spec := c.spec(launch, disks)
	var i providers.Instance
	err = try(f, "CreateInstance", func() (err error) {
		if i, err = f.CreateInstance(ctx, spec); err == nil {
			i, err = providers.AwaitInstance(ctx, c, i.ID, providers.StateRunning, c.opts.Pause)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.count(ctx, providers.KindInstance, launch, 1); err != nil {
		return err
	}
	await := func(err error, want providers.State) error {
		if err == nil {
			_, err = providers.AwaitInstance(ctx, c, i.ID, want, c.opts.Pause)
		}
		return err
	}
	if err := try(f, "StopInstance", func() error { return await(f.StopInstance(ctx, i.ID, true), providers.StateStopped) }); err != nil {
		return err
	}
	if err := try(f, "StartInstance", func() error { return await(f.StartInstance(ctx, i.ID), providers.StateRunning) }); err != nil {
		return err
	}
	return try(f, "TerminateInstance", func() error { return await(f.TerminateInstance(ctx, i.ID), providers.StateTerminated) })
}

// sweep removes the launch that is dead, and nothing of the one that lives or of another owner.
func (c *checker) sweep(ctx context.Context) error {
	for _, launch := range []string{"alive", "dead"} {
		v, err := c.newVolume(ctx, launch)
		if err == nil {
			_, err = c.newSnapshot(ctx, launch, v.ID)
		}
		if err == nil && c.machines() == nil {
			_, err = c.newInstance(ctx, launch, 1, launch == "alive")
		}
		if err != nil {
			return err
		}
	}
	before, err := c.List(ctx, c.opts.System)
	if err != nil {
		return err
	}
	live := func(context.Context) (map[string]bool, error) { return map[string]bool{"alive": true}, nil }
	report, err := providers.SweepAll(ctx, c, c.opts.System, live, c.opts.Pause)
	if err != nil {
		return err
	}
	for _, r := range report.Removed {
		if r.Owner.Launch != "dead" {
			return fmt.Errorf("the sweep removed %v", r)
		}
	}
	after, err := c.List(ctx, c.opts.System)
	if err != nil {
		return err
	}
	for _, r := range before {
		there := slices.ContainsFunc(after, func(x providers.Resource) bool { return x.ID == r.ID })
		if there != (r.Owner.Launch == "alive") {
			return fmt.Errorf("after the sweep, %s %s of the %s launch is there: %v", r.Kind, r.ID, r.Owner.Launch, there)
		}
	}
	others, err := c.List(ctx, c.opts.System+"-other")
	if err == nil && len(others) > 0 {
		err = fmt.Errorf("list of another owner shows %v", others)
	}
	return err
}

// stories are launches whose calls fail at random and whose master gives up somewhere. Whatever was made, at most one of each is there, and
// the sweeper, whose calls fail as well, leaves nothing.
func (c *checker) stories(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(c.opts.Seed, 1))
	for n := range c.opts.Stories {
		launch := fmt.Sprintf("story-%d", n)
		var rules []fault.Rule
		for range 12 {
			rules = append(rules, fault.Rule{Nth: 1 + rng.IntN(40), After: rng.IntN(2) == 0})
		}
		f := fault.New(c.Provider, rules...)
		most, err := c.story(ctx, f, launch, 1+rng.IntN(8))
		if err != nil {
			return fmt.Errorf("%s: %w", launch, err)
		}
		all, err := c.List(ctx, c.opts.System)
		if err != nil {
			return err
		}
		have := map[providers.Kind]int{}
		for _, r := range all {
			have[r.Kind]++
		}
		for kind, n := range have {
			if n > most[kind] {
				return fmt.Errorf("%s: %d %ss, and at most %d were asked for", launch, n, kind, most[kind])
			}
		}
		if _, err := providers.SweepAll(ctx, f, c.opts.System, none, c.opts.Pause); err != nil {
			return fmt.Errorf("%s: %w", launch, err)
		}
		// A list that lost its answer must not have looked like an empty one.
		if err := c.nothingLeft(ctx); err != nil {
			return fmt.Errorf("%s: after the sweep %w", launch, err)
		}
	}
	return nil
}

// story does the first steps of a launch, each until it succeeds, and then gives up. It returns how many of each kind were asked for.
func (c *checker) story(ctx context.Context, f *fault.Provider, launch string, steps int) (map[providers.Kind]int, error) {
	most := map[providers.Kind]int{}
	var volume, instance string
	var disk providers.Disk
	all := []func() func() error{ // each writes its token down and returns what may be repeated
		func() func() error {
			most[providers.KindVolume]++
			spec := providers.VolumeSpec{Meta: c.meta(launch), Size: c.opts.VolumeSize, Zone: c.zone()}
			return func() error {
				v, err := f.CreateVolume(ctx, spec)
				if err != nil {
					return err
				}
				volume, disk = v.ID, providers.Disk{From: providers.Source{Kind: providers.FromVolume, ID: v.ID}, Delete: true}
				_, err = providers.AwaitVolume(ctx, f, v.ID, c.opts.Pause)
				return err
			}
		},
		func() func() error {
			most[providers.KindSnapshot]++
			spec := providers.SnapshotSpec{Meta: c.meta(launch), Volume: volume}
			return func() error {
				s, err := f.CreateSnapshot(ctx, spec)
				if err != nil {
					return err
				}
				if !c.caps.CanMakeInstanceFrom(providers.FromVolume) {
					disk.From = providers.Source{Kind: providers.FromSnapshot, ID: s.ID}
				}
				_, err = providers.AwaitSnapshot(ctx, f, s.ID, c.opts.Pause)
				return err
			}
		},
		func() func() error {
			most[providers.KindInstance]++
			if disk.From.Kind == providers.FromSnapshot {
				most[providers.KindVolume]++
			}
			spec := c.spec(launch, []providers.Disk{disk})
			return func() error {
				i, err := f.CreateInstance(ctx, spec)
				if err != nil {
					return err
				}
				instance = i.ID
				_, err = providers.AwaitInstance(ctx, f, i.ID, providers.StateRunning, c.opts.Pause)
				return err
			}
		},
		func() func() error { return func() error { return f.StopInstance(ctx, instance, true) } },
		func() func() error { return func() error { return f.TerminateInstance(ctx, instance) } },
	}
	if c.opts.NoInstances {
		all = all[:2]
	}
	for _, step := range all[:min(steps, len(all))] {
		do := step()
		_, err := providers.Await(ctx, c.opts.Pause, func(context.Context) (struct{}, error) { return struct{}{}, do() },
			func(struct{}) (bool, error) { return true, nil })
		if err != nil {
			return most, err
		}
	}
	return most, nil
}
