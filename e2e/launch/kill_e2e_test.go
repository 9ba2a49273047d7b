//go:build e2e

package launch

import (
	"testing"

	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/wire"
)

// gone is how a launch ends whose machine dies before it was up.
const gone = "^the machine (failed: start QEMU|stopped by itself: the machine's process ended)"

// TestEverybodyIsKilled kills each in each state of each kind of launch.
func TestEverybodyIsKilled(t *testing.T) {
	roottest.Need(t, "mounting disks")
	w := newWorld(t, bootable(t, system(t)))
	for _, r := range []round{
		{kind: wire.LaunchTest, victim: "master", states: testStates},
		{kind: wire.LaunchCutover, victim: "master", states: cutoverStates},
		{kind: wire.LaunchTest, victim: "hydrator", states: hydratorStates},
		{kind: wire.LaunchCutover, victim: "hydrator", states: hydratorStates},
		{kind: wire.LaunchTest, victim: provider, states: []string{wire.LaunchStarting}, fails: gone},
		{kind: wire.LaunchTest, victim: provider, states: []string{wire.LaunchChecking}, fails: gone},
		{kind: wire.LaunchTest, victim: provider, states: []string{wire.LaunchRunning}},
		{kind: wire.LaunchCutover, victim: provider, states: []string{wire.LaunchStarting}, fails: gone},
		{kind: wire.LaunchCutover, victim: provider, states: []string{wire.LaunchChecking}, fails: gone},
		{kind: wire.LaunchCutover, victim: provider, states: []string{wire.LaunchRunning}},
		{kind: wire.LaunchTest, victim: "agent", states: testStates},
		{kind: wire.LaunchCutover, victim: "agent", states: []string{wire.LaunchConverting}, fails: "^the source (was thawed before the machine ran|could not be frozen as asked)"},
		{kind: wire.LaunchTest, instant: true, victim: "master", states: []string{wire.LaunchPending, wire.LaunchHydrating, wire.LaunchStarting, wire.LaunchChecking, wire.LaunchReverting}},
		{kind: wire.LaunchTest, instant: true, victim: "hydrator", states: []string{wire.LaunchPending}},
		{kind: wire.LaunchTest, instant: true, victim: "hydrator", states: []string{wire.LaunchChecking}, fails: "^the node stopped to show disks"},
	} {
		w.play(r)
		if t.Failed() {
			return
		}
	}
}
