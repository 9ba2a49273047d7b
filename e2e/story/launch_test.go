//go:build e2e

package story

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/wire"
)

// call asks the master something that takes no time.
func call[T any](s *source, do func(context.Context, *apiclient.Client) (T, error)) T {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	c, hangUp := s.lab.Client()
	defer hangUp()
	out, err := do(ctx, c)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// template is what launches of the source are like: its service is what is checked.
func template(bus string) *wire.LaunchTemplate {
	return &wire.LaunchTemplate{
		Type: "c1-m1024", Bus: bus, Forward: []uint16{servicePort},
		Checks: []wire.LaunchCheck{{Kind: wire.CheckHTTP, Port: servicePort, Path: "/"}, {Kind: wire.CheckBoot}, {Kind: wire.CheckScreenshot}},
	}
}

// launched is a launch that was asked for.
type launched struct {
	s  *source
	id string
}

// launch asks for one.
func (s *source) launch(kind, bus, restpoint string) *launched {
	s.t.Helper()
	r := wire.LaunchRequest{Kind: kind, Machine: name, Restpoint: restpoint, Template: template(bus)}
	return s.ask(r)
}

// ask asks for any launch.
func (s *source) ask(r wire.LaunchRequest) *launched {
	s.t.Helper()
	i := call(s, func(ctx context.Context, c *apiclient.Client) (wire.LaunchInfo, error) { return c.StartLaunch(ctx, r) })
	return &launched{s, i.ID}
}

func (l *launched) info() wire.LaunchInfo {
	l.s.t.Helper()
	return call(l.s, func(ctx context.Context, c *apiclient.Client) (wire.LaunchInfo, error) { return c.Launch(ctx, l.id) })
}

// launchLimit bounds one way from a state to another. A busy host takes minutes for a boot.
const launchLimit = 15 * time.Minute

// wait waits for a state, and fails the test when the launch comes to another end.
func (l *launched) wait(state string) wire.LaunchInfo {
	l.s.t.Helper()
	var i wire.LaunchInfo
	for deadline := time.Now().Add(launchLimit); ; time.Sleep(poll) {
		i = l.info()
		if i.State == state {
			break
		}
		switch i.State {
		case wire.LaunchFailed, wire.LaunchReverted, wire.LaunchFinalized:
			l.s.t.Fatalf("launch is %s, not %s: %s", i.State, state, l.tell(i))
		}
		if time.Now().After(deadline) {
			l.s.t.Fatalf("launch is still %s: %s", i.State, l.tell(i))
		}
	}
	l.s.t.Logf("%s %s on %s is %s: %s", i.Kind, i.ID, i.Template.Bus, i.State, steps(i))
	return i
}

// tell is all about a launch that is not as it should be.
func (l *launched) tell(i wire.LaunchInfo) string {
	i.Conversion = nil
	b, _ := json.MarshalIndent(i, "", "  ")
	if l.s.Machine == nil {
		return string(b)
	}
	return string(b) + "\nagent: " + l.s.journal()
}

// steps are the seconds that a launch took in each state.
func steps(i wire.LaunchInfo) string {
	var out []string
	for _, s := range i.Steps {
		if !s.Ended.IsZero() {
			out = append(out, fmt.Sprintf("%s %.1f s", s.Name, s.Ended.Sub(s.Started).Seconds()))
		}
	}
	return strings.Join(out, ", ")
}

// step is when a state began.
func step(i wire.LaunchInfo, name string) time.Time {
	for _, s := range i.Steps {
		if s.Name == name {
			return s.Started
		}
	}
	return time.Time{}
}

// rows asks the launched machine.
func (l *launched) rows(i wire.LaunchInfo) rows {
	l.s.t.Helper()
	for _, e := range i.Endpoints {
		if e.Port != servicePort {
			continue
		}
		v, err := ask(l.s.t.Context(), e.Address)
		if err != nil {
			l.s.t.Fatalf("ask the launched machine: %v", err)
		}
		return v
	}
	l.s.t.Fatalf("no endpoint for port %d: %v", servicePort, i.Endpoints)
	return rows{}
}

// revert takes the launch back and makes sure that nothing of it is left.
func (l *launched) revert() {
	l.s.t.Helper()
	call(l.s, func(ctx context.Context, c *apiclient.Client) (wire.LaunchInfo, error) {
		return c.RevertLaunch(ctx, l.id)
	})
	l.wait(wire.LaunchReverted)
	l.s.nothingLeft()
}

// nothingLeft makes sure that the provider has nothing that belongs to no launch.
func (s *source) nothingLeft() {
	s.t.Helper()
	for _, p := range call(s, func(ctx context.Context, c *apiclient.Client) ([]wire.ProviderInfo, error) { return c.Providers(ctx) }) {
		o := call(s, func(ctx context.Context, c *apiclient.Client) ([]wire.Orphan, error) { return c.Orphans(ctx, p.Name) })
		if len(o) > 0 {
			s.t.Errorf("left at %s: %+v", p.Name, o)
		}
	}
}

// life is the machine's.
func (s *source) life(want string) {
	s.t.Helper()
	s.lab.Eventually(time.Minute, "life is "+want, func() error {
		var m struct{ Life string }
		if s.lab.JSON(&m, "machines", "show", name); m.Life != want {
			return fmt.Errorf("it is %q", m.Life)
		}
		return nil
	})
}

// bootOf waits until a boot other than the known ones has reported to the counter, and returns it with its first ack.
func (s *source) bootOf(known ...string) (string, ack) {
	s.t.Helper()
	var boot string
	s.lab.Eventually(launchLimit, "the target reports", func() error {
		for _, b := range s.counter.others(known...) {
			boot = b
			return nil
		}
		return fmt.Errorf("nothing but %v", known)
	})
	return boot, s.counter.of(boot)[0]
}

// startLab makes an installation. Machines outlive a master, so those that launches left, or gave away, are ended after it.
func startLab(t *testing.T, args ...string) *lab.Lab {
	t.Helper()
	var l *lab.Lab
	t.TempDir() // the first one's cleanup removes all of the test's folders: it must come after ours
	t.Cleanup(func() {
		if l != nil {
			lab.EndMachines(t, l.Path("master/providers/qemu"))
		}
	})
	l = lab.NewWith(t, lab.Options{Dev: true, Args: args})
	return l
}
