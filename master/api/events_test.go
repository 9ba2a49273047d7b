package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// listen opens an event stream and returns its events.
func (a *actor) listen(t *testing.T, w *world, header ...string) (<-chan wire.ChangeEvent, *http.Response) {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), "GET", w.url+wire.PathEvents, nil))
	req.Header.Set("Authorization", "Bearer "+a.token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := w.raw(true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan wire.ChangeEvent, 100)
	ready := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		first := true
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if first {
				close(ready)
				first = false
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var e wire.ChangeEvent
				if json.Unmarshal([]byte(data), &e) == nil {
					events <- e
				}
			}
		}
		if first {
			close(ready)
		}
	}()
	t.Cleanup(func() { res.Body.Close(); <-done })
	<-ready
	return events, res
}

// next waits for an event; ok is false when the stream has ended.
func next(t *testing.T, events <-chan wire.ChangeEvent) (e wire.ChangeEvent, ok bool) {
	t.Helper()
	select {
	case e, ok = <-events:
		return e, ok
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
	}
	return e, false
}

// TestEvents: whoever listens hears of changes of his project, goes on where he was, and is told when he cannot.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	viewer, stranger := w.person(accounts.RoleViewer), w.stranger()
	events, res := viewer.listen(t, w)
	if res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", res.Header)
	}
	foreign, _ := stranger.listen(t, w)
	w.enrolToken(ca.KindAgent)
	e, _ := next(t, events)
	for e.Kind == "token" { // those of this test were made a moment ago
		e, _ = next(t, events)
	}
	if e.Kind != "enrolment-token" || e.ID == "" || e.Sequence == 0 {
		t.Errorf("%+v", e)
	}
	w.enrolToken(ca.KindNode)
	second, _ := next(t, events)
	if second.Sequence <= e.Sequence {
		t.Errorf("%+v after %+v", second, e)
	}
	resumed, _ := viewer.listen(t, w, "Last-Event-ID", fmt.Sprint(e.Sequence))
	if again, _ := next(t, resumed); again != second {
		t.Errorf("resumed with %+v, want %+v", again, second)
	}
	for _, id := range []string{"1", "99999999999"} { // from before what is remembered, and from a master that was
		if gap, _ := next(t, first(viewer.listen(t, w, "Last-Event-ID", id))); gap.Kind != "gap" || gap.Sequence < second.Sequence {
			t.Errorf("Last-Event-ID %s: %+v", id, gap)
		}
	}
	if res, b := viewer.ask(t, w, "GET", wire.PathEvents, "", "Last-Event-ID", "x"); codeOf(t, b) != wire.CodeBadRequest {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	for len(foreign) > 0 {
		if e := <-foreign; e.Kind != "token" {
			t.Errorf("another project hears of %+v", e)
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestEventsOfProgress: progress is in no row, and whoever listens hears of it all the same, once for each step.
func TestEventsOfProgress(t *testing.T) {
	w := newWorld(t)
	a := w.env.NewAgent("web")
	node := w.enrol(ca.KindNode, true)
	job, err := w.env.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: first(a.Replicate(catalogDisk()))})
	if err != nil {
		t.Fatal(err)
	}
	if leased, err := node.LeaseJob(t.Context(), &wire.LeaseRequest{Kinds: []string{wire.JobVerify}}); err != nil || leased == nil || leased.ID != job.ID {
		t.Fatalf("%+v, %v", leased, err)
	}
	cycle, err := a.Open("", catalogDisk())
	if err != nil {
		t.Fatal(err)
	}
	apart := func() { time.Sleep(time.Second / 2) } // events of one moment are one
	apart()
	events, _ := w.person(accounts.RoleViewer).listen(t, w)
	for _, done := range []int64{5, 5, 6} {
		if _, err := w.env.Catalog.RenewSession(t.Context(), a.Machine.ID, cycle.Session.ID, wire.Progress{Total: 10, Done: done}); err != nil {
			t.Fatal(err)
		}
		if _, err := node.RenewJob(t.Context(), job.ID, &wire.Progress{Total: 10, Done: 1}); err != nil {
			t.Fatal(err)
		}
		apart()
	}
	w.enrolToken(ca.KindNode)
	heard := map[string]int{}
	for {
		e, ok := next(t, events)
		if !ok {
			t.Fatal("the stream ended")
		}
		if e.Kind == "enrolment-token" {
			break
		}
		if e.ID == cycle.Session.ID && e.Machine != a.Machine.ID {
			t.Errorf("a session of nobody: %+v", e)
		}
		heard[e.ID]++
	}
	if heard[cycle.Session.ID] != 2 || heard[job.ID] != 1 {
		t.Errorf("%d events of the session, want 2; %d of the job, want 1", heard[cycle.Session.ID], heard[job.ID])
	}
}

// TestEventsEnd: a stream ends when its token is removed or expires, and when the master stops.
func TestEventsEnd(t *testing.T) {
	w := newWorld(t)
	ends := func(what string, events <-chan wire.ChangeEvent) {
		t.Helper()
		for range 10 {
			if _, ok := next(t, events); !ok {
				return
			}
		}
		t.Errorf("%s: the stream goes on", what)
	}
	tok, text, err := w.accounts.NewToken(t.Context(), nil, accounts.Token{Project: "default", Name: "x", Role: accounts.RoleViewer}, 0)
	if err != nil {
		t.Fatal(err)
	}
	events, _ := (&actor{token: text}).listen(t, w)
	if err := w.accounts.RemoveToken(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	ends("a token that was removed", events)
	_, text, err = w.accounts.NewToken(t.Context(), nil, accounts.Token{Project: "default", Name: "x", Role: accounts.RoleViewer}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	events, _ = (&actor{token: text}).listen(t, w)
	w.env.Clock.Advance(2 * time.Second)
	ends("a token that expired", events)
	events, _ = w.person(accounts.RoleViewer).listen(t, w)
	w.handler.Stop()
	ends("a master that stops", events)
}

// TestEventsAreBounded: one caller opens no more streams than he may, and others still can.
func TestEventsAreBounded(t *testing.T) {
	s := newStreams()
	var leave []func()
	for n := 0; ; n++ {
		l, err := s.enter("a")
		if err != nil {
			if n != maxOwnerOpen || !wire.HasCode(err, wire.CodeBusy) {
				t.Errorf("%d streams, %v", n, err)
			}
			break
		}
		leave = append(leave, l)
	}
	for i := 0; ; i++ {
		l, err := s.enter(fmt.Sprint(i))
		if err != nil {
			if i != maxStreams-maxOwnerOpen {
				t.Errorf("%d streams of others", i)
			}
			break
		}
		leave = append(leave, l)
	}
	for _, l := range leave {
		l()
	}
	if _, err := s.enter("a"); err != nil || len(s.owner) != 1 {
		t.Errorf("%v, %v", err, s.owner)
	}
}
