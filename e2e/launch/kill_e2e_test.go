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
		{kind: wire.LaunchTest, kills: each("master", testStates)},
		{kind: wire.LaunchCutover, kills: each("master", cutoverStates)},
		{kind: wire.LaunchTest, kills: each("hydrator", hydratorStates)},
		{kind: wire.LaunchCutover, kills: each("hydrator", hydratorStates)},
		{kind: wire.LaunchTest, kills: each(provider, []string{wire.LaunchStarting}), fails: gone},
		{kind: wire.LaunchTest, kills: each(provider, []string{wire.LaunchChecking}), fails: gone},
		{kind: wire.LaunchTest, kills: each(provider, []string{wire.LaunchRunning})},
		{kind: wire.LaunchCutover, kills: each(provider, []string{wire.LaunchStarting}), fails: gone},
		{kind: wire.LaunchCutover, kills: each(provider, []string{wire.LaunchChecking}), fails: gone},
		{kind: wire.LaunchCutover, kills: each(provider, []string{wire.LaunchRunning})},
		{kind: wire.LaunchTest, kills: each("agent", testStates)},
		{kind: wire.LaunchCutover, kills: each("agent", []string{wire.LaunchConverting}), fails: "^the source (was thawed before the machine ran|could not be frozen as asked)"},
		{kind: wire.LaunchTest, instant: true, kills: each("master", []string{wire.LaunchPending, wire.LaunchHydrating, wire.LaunchStarting, wire.LaunchChecking, wire.LaunchReverting})},
		{kind: wire.LaunchTest, instant: true, kills: each("hydrator", []string{wire.LaunchPending})},
		{kind: wire.LaunchTest, instant: true, kills: each("hydrator", []string{wire.LaunchChecking}), fails: "^the node stopped to show disks"},
	} {
		w.play(r)
		if t.Failed() {
			return
		}
	}
}
