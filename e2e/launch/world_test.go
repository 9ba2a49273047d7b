// Package launch kills the real programs while a machine is launched: the master, the hydrator, the machine's own QEMU and the agent, in each state that a
// launch goes through. Whatever dies, the launch goes on once it is back, or fails and says why; and when the launch is over nothing of it is left at the
// provider, on this host, or among its processes.
//
// The machine is a few MiB: a system that conversion knows its way in, and a boot sector that says on the serial port that it is up. It starts in
// seconds, emulated, and shows what a real one would, but for what happens inside of it: that is what e2e/story is for.
package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) {
	// Whatever a program of the lab leaves behind when it is killed becomes a child of this process, and is seen.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "become the parent of orphans:", err)
		os.Exit(1)
	}
	code := m.Run()
	lab.RemoveBinaries()
	os.Exit(code)
}

const (
	machine  = "web1" // as the lab calls it
	provider = "qemu"
	poll     = 10 * time.Millisecond
)

// masterArgs are those of each start of the master.
var masterArgs = []string{"--provider", "qemu,accel=tcg"}

// world is an installation whose machine is replicated.
type world struct {
	*lab.Lab
	t     *testing.T
	disk  string
	size  string        // of machines: a type
	limit time.Duration // from one state of a launch to the next
	alone []string      // what runs when no launch does
	calls *apiclient.Client
	hang  func() // ends the calls' connections; nil: there are none
}

// newWorld replicates a disk. Machines outlive their master, so those that a test left are ended after it.
func newWorld(t *testing.T, disk string) *world {
	t.Helper()
	w := &world{t: t, disk: disk, size: "c1-m64", limit: 4 * time.Minute}
	t.TempDir() // the first one's cleanup removes all of the test's folders: it must come after ours
	t.Cleanup(w.endMachines)
	t.Cleanup(w.hangUp)
	w.Lab = lab.NewWith(t, lab.Options{Args: masterArgs})
	w.startHydrator(w.Token("node"))
	w.StartAgent(w.Token("agent"), disk)
	w.Eventually(time.Minute, "agent enrolled", func() error {
		var list []struct{ Name string }
		if w.JSON(&list, "machines", "ls"); len(list) != 1 {
			return fmt.Errorf("machines %v", list)
		}
		return nil
	})
	if _, err := w.CLI("machines", "set", machine, "--interval", "-1s"); err != nil {
		t.Fatal(err)
	}
	w.sync()
	w.alone = w.programs()
	return w
}

func (w *world) sync() {
	w.t.Helper()
	if _, err := w.CLI("machines", "sync", machine, "--wait"); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) startHydrator(token string) {
	w.t.Helper()
	w.StartHydrator(token, "--provider", provider+"="+w.dir("volumes"))
}

// dir is a folder of the provider's.
func (w *world) dir(name string) string { return w.Path(filepath.Join("master/providers/qemu", name)) }

// endMachines ends what a failed test left running.
func (w *world) endMachines() {
	if w.Lab != nil {
		lab.EndMachines(w.t, w.dir(""))
	}
}

// client speaks to the master that runs now.
func (w *world) client() *apiclient.Client {
	w.t.Helper()
	if w.hang != nil {
		return w.calls
	}
	w.calls, w.hang = w.Client()
	return w.calls
}

func (w *world) hangUp() {
	if w.hang != nil {
		w.hang()
		w.hang = nil
	}
}

// ask calls the master until it answers with anything but that it is not there.
func ask[T any](w *world, what string, fn func(context.Context, *apiclient.Client) (T, error)) T {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for {
		v, err := fn(ctx, w.client())
		var problem *wire.Problem
		if err == nil || ctx.Err() != nil || errors.As(err, &problem) && problem.Status < 500 {
			if err != nil {
				w.t.Fatalf("%s: %v", what, err)
			}
			return v
		}
		time.Sleep(poll)
	}
}

func (w *world) launch(id string) wire.LaunchInfo {
	w.t.Helper()
	return ask(w, "look at the launch", func(ctx context.Context, c *apiclient.Client) (wire.LaunchInfo, error) { return c.Launch(ctx, id) })
}

// request is what every launch here is like.
func (w *world) request(kind string) wire.LaunchRequest {
	return wire.LaunchRequest{Kind: kind, Machine: machine, Template: &wire.LaunchTemplate{Type: w.size, Firmware: "bios"}}
}

func (w *world) start(r wire.LaunchRequest) string {
	w.t.Helper()
	return ask(w, "launch", func(ctx context.Context, c *apiclient.Client) (wire.LaunchInfo, error) { return c.StartLaunch(ctx, r) }).ID
}

func (w *world) revert(id string) {
	w.t.Helper()
	ask(w, "revert", func(ctx context.Context, c *apiclient.Client) (wire.LaunchInfo, error) {
		return c.RevertLaunch(ctx, id)
	})
}

// tell is all about a launch.
func tell(i *wire.LaunchInfo) string {
	var b strings.Builder
	fmt.Fprintf(&b, "launch %s is %s", i.ID, i.State)
	if i.Failure != nil {
		fmt.Fprintf(&b, ", failed while %s: %s; %s", i.Failure.Step, i.Failure.Reason, i.Failure.Cause)
	}
	for _, s := range i.Steps {
		fmt.Fprintf(&b, "\n  %s %s %s", s.Started.Format("15:04:05.000"), s.Name, s.Message)
	}
	for _, l := range i.Log {
		fmt.Fprintf(&b, "\n  %s %s", l.Time.Format("15:04:05.000"), l.Message)
	}
	return b.String()
}

// kill ends a program as a power cut would, and starts it again where something would.
func (w *world) kill(victim string) {
	w.t.Helper()
	switch victim {
	case "master":
		w.hangUp()
		w.Proc("master").Kill()
		w.StartMaster(masterArgs...)
	case "hydrator":
		w.Proc("hydrator").Kill()
		w.startHydrator("")
	case "agent":
		w.Proc("agent").Kill()
		w.StartAgent("", w.disk)
	case provider:
		w.killMachine()
	default:
		w.t.Fatalf("there is no %s to kill", victim)
	}
}

// killMachine kills the machine's process, as soon as there is one.
func (w *world) killMachine() {
	w.t.Helper()
	w.Eventually(time.Minute, "the machine has a process", func() error {
		for _, p := range descendants(w.t) {
			if strings.HasPrefix(p.program, "qemu-system") {
				return unix.Kill(p.pid, unix.SIGKILL)
			}
		}
		return errors.New("there is none")
	})
}

// awaitProgram waits until one of that name runs.
func (w *world) awaitProgram(name string) {
	w.t.Helper()
	w.Eventually(w.limit, name+" runs", func() error {
		for _, p := range descendants(w.t) {
			if p.program == name {
				return nil
			}
		}
		return errors.New("it does not")
	})
}

func isOver(state string) bool {
	return slices.Contains([]string{wire.LaunchFailed, wire.LaunchReverted, wire.LaunchFinalized}, state)
}
