package observe

import (
	"context"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// Event is something that other systems may want to know:
//
//	machine.enrolled, machine.initial_sync, machine.protected, machine.lagging, machine.stalled, machine.rescanning, machine.paused, machine.disconnected, machine.held
//	restpoint.listed
//	launch.pending, launch.hydrating, …, launch.running, launch.failed, launch.reverted, launch.finalized
//
// Machines and launches are looked at now and then (Run): of states that passed in between nothing is told, nor of what changed while the master was
// away.
type Event struct {
	Type    string
	Project string
	Time    time.Time
	Data    any
}

const (
	flushEvery = 2 * time.Second
	maxPending = 10000 // events that were not given away yet; later ones are lost
	maxOfType  = 50    // of one type and project at once; more are one event that says how many
)

// kindOf makes a type of an event: those have underscores.
func kindOf(thing, state string) string { return thing + "." + strings.ReplaceAll(state, "-", "_") }

// tell keeps an event until the next flush.
func (m *Metrics) tell(e Event) {
	if m.Emit == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.pending) < maxPending {
		m.pending = append(m.pending, e)
	}
}

// flush gives away what is pending. What cannot be given away is kept for the next time.
func (m *Metrics) flush(ctx context.Context) {
	m.mu.Lock()
	events := m.pending
	m.pending = nil
	m.mu.Unlock()
	if len(events) == 0 {
		return
	}
	events = gather(events)
	if err := m.Emit(ctx, events); err != nil && ctx.Err() == nil {
		m.Log.Warn("events could not be given to webhooks; it is tried again", "events", len(events), "error", err)
		m.mu.Lock()
		m.pending = append(events, m.pending...)
		m.pending = m.pending[:min(len(m.pending), maxPending)]
		m.mu.Unlock()
	}
}

// gather makes one event of many of a type: when a master was away for long, all machines change at once.
func gather(events []Event) []Event {
	type key struct{ kind, project string }
	count := map[key]int{}
	for _, e := range events {
		count[key{e.Type, e.Project}]++
	}
	out := events[:0:0]
	for _, e := range events {
		k := key{e.Type, e.Project}
		switch n := count[k]; {
		case n > maxOfType:
			e.Data = map[string]int{"many": n}
			out = append(out, e)
			count[k] = -1
		case n > 0:
			out = append(out, e)
		}
	}
	return out
}

// machineData is what a machine's event says: enough to know what to do, and nothing that an agent made up but the machine's name.
type machineData struct {
	Machine    string  `json:"machine"`
	Name       string  `json:"name"`
	State      string  `json:"state"`
	Was        string  `json:"was,omitempty"`
	RPOSeconds float64 `json:"rpo_seconds"`
	NextStep   string  `json:"next_step"`
}

// machineEvent tells of a machine whose state is another one than in the last look.
func (p *pass) machineEvent(m *catalog.Machine, s *catalog.Standing, was string) {
	p.m.tell(Event{Type: kindOf("machine", s.State), Project: m.Project, Time: p.now,
		Data: machineData{Machine: m.ID, Name: m.Name, State: s.State, Was: was, RPOSeconds: s.RPO.Seconds(), NextStep: s.NextStep}})
}

// launchData is what a launch's event says.
type launchData struct {
	Launch  string `json:"launch"`
	Kind    string `json:"kind"`
	Machine string `json:"machine"`
	Name    string `json:"name"`
	State   string `json:"state"`
	Was     string `json:"was,omitempty"`
}

func (p *pass) launchEvent(l *wire.LaunchInfo, was string) {
	p.m.tell(Event{Type: kindOf("launch", l.State), Project: l.Project, Time: p.now,
		Data: launchData{Launch: l.ID, Kind: l.Kind, Machine: l.Machine, Name: l.MachineName, State: l.State, Was: was}})
}

// restpointEvent tells of a session that made a restpoint.
func (m *Metrics) restpointEvent(s *catalog.Session) {
	m.tell(Event{Type: "restpoint.listed", Project: s.Project, Time: s.Ended, Data: map[string]string{"restpoint": s.Restpoint, "machine": s.Machine}})
}
