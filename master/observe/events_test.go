package observe

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

func TestEvents(t *testing.T) {
	f := sample()
	m := metrics(t, f)
	var told []Event
	var fail error
	m.Emit = func(_ context.Context, events []Event) error {
		if fail == nil {
			told = append(told, events...)
		}
		return fail
	}
	types := func() string {
		t.Helper()
		m.Pass(t.Context())
		m.flush(t.Context())
		var list []string
		for _, e := range told {
			list = append(list, e.Type)
		}
		return strings.Join(list, " ")
	}
	if got := types(); got != "" {
		t.Errorf("what was there before is told: %s", got)
	}
	f.machines["default"][0].Paused = true
	f.machines["default"] = append(f.machines["default"], catalog.Machine{ID: "3", Project: "default", Name: "new", LastSeen: noon})
	f.launches[0].State = wire.LaunchFailed
	if got := types(); got != "machine.paused machine.enrolled launch.failed" {
		t.Errorf("%s", got)
	}
	b, err := json.Marshal(told[0].Data)
	if err != nil || !strings.Contains(string(b), `"machine":"1","name":"db1","state":"paused","was":"protected"`) {
		t.Errorf("%s, %v", b, err)
	}
	if got := types(); strings.Count(got, " ") != 2 {
		t.Errorf("told twice: %s", got)
	}
	f.fail = errors.New("no database")
	types()
	f.fail = nil
	if got := types(); strings.Count(got, " ") != 2 {
		t.Errorf("told again after a failure: %s", got)
	}
	told, fail = nil, errors.New("full")
	m.Clock.(*clock.Fake).Advance(time.Hour) // all agents are silent
	if got := types(); got != "" {
		t.Error(got)
	}
	fail = nil
	if got := types(); got != "machine.disconnected machine.disconnected" {
		t.Errorf("after it could not be told: %q", got)
	}
	m.restpointEvent(&catalog.Session{Project: "default", Machine: "1", Restpoint: "r"})
	if got := types(); !strings.HasSuffix(got, "restpoint.listed") {
		t.Error(got)
	}
	fail = errors.New("full")
	for range maxPending + 10 {
		m.tell(Event{})
	}
	if len(m.pending) != maxPending {
		t.Errorf("%d events are kept", len(m.pending))
	}
	m.flush(t.Context())
	told, fail = nil, nil
	m.flush(t.Context())
	if b, err := json.Marshal(told); err != nil || len(told) != 1 || !strings.Contains(string(b), `"many":10000`) {
		t.Errorf("%d events, %v", len(told), err)
	}
}
