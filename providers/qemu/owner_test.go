package qemu

import (
	"context"
	"testing"
)

const ownerEnv = "QEMU_TEST_OWNER"

func owner() int { return 0 }

// endMachines kills the machines of a state directory that nobody uses.
func endMachines(t *testing.T, dir string) {
	t.Helper()
	p := &Provider{opts: Options{Dir: dir}, volumes: map[string]*volume{}, snapshots: map[string]*snapshot{}, instances: map[string]*instance{}}
	if err := p.load(); err != nil {
		t.Error(err)
	}
	for id, i := range p.instances {
		if err := p.kill(context.Background(), id, i.UUID, i.Run); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
