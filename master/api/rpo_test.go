package api

import (
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/wire"
)

// TestRPO: people see how far a machine is behind and by which means its disks are replicated; lists leave the disks out.
func TestRPO(t *testing.T) {
	w := newWorld(t)
	agent, admin := w.enrol(ca.KindAgent, true), w.admin()
	every := wire.Duration(time.Second)
	x, err := admin.SetPolicy(t.Context(), agent.id, wire.MachinePolicy{Interval: &every})
	if err != nil {
		t.Fatal(err)
	}
	if x.RPO.Instant != nil || x.RPO.Now != 0 || x.RPO.Target == 0 || *x.Policy.Interval != every || x.Reason == "" {
		t.Errorf("before the first restpoint: %s because %q, %+v", x.Replication, x.Reason, x.RPO)
	}
	report := &wire.Report{State: "idle", Cycle: &wire.CycleReport{Restpoint: "r", Passes: 2, Why: []string{"because"}},
		Disks: []wire.DiskReport{{ID: "d", Name: "sda", Tracker: "scan", TrackerWhy: "no tracepoints", Consistency: "crash", ConsistencyWhy: "no freeze"}}}
	if err := agent.Report(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	if x, err = admin.Machine(t.Context(), agent.id); err != nil || len(x.Report.Disks) != 1 || x.Report.Disks[0] != report.Disks[0] || x.Report.Cycle.Passes != 2 {
		t.Errorf("shown: %+v, %v", x.Report, err)
	}

	other := w.env.NewAgent("other")
	other.Now = w.env.Clock.Now()
	other.Replicate(catalogtest.Disk{ID: "d", Data: make([]byte, catalogtest.ChunkSize)})
	w.env.Clock.Advance(time.Minute)
	list, err := admin.Machines(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%d machines, %v", len(list), err)
	}
	for _, m := range list {
		if m.NextStep == "" || len(m.Report.Disks) != 0 || m.Events != nil {
			t.Errorf("listed: next step %q, report %+v", m.NextStep, m.Report)
		}
		if m.Name == "other" && (m.RPO.Now != wire.Duration(time.Minute) || !m.RPO.Instant.Equal(other.Now)) {
			t.Errorf("its RPO is %+v", m.RPO)
		}
	}
}
