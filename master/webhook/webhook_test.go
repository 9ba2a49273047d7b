package webhook

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// TestVector: the one that the specification's own libraries are tested with.
func TestVector(t *testing.T) {
	w := newWorld(t)
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	h := &hookRow{Hook: Hook{URL: w.endpoint.URL}, Secrets: []secret{{Key: key}}}
	d := &deliveryRow{Delivery: Delivery{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek"}, Payload: json.RawMessage(`{"test": 2432232314}`)}
	resp, err := w.post(t.Context(), h, d, time.Unix(1614265330, 0))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	got := w.requests()[0].header
	if got.Get("webhook-signature") != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" || got.Get("webhook-id") != d.ID || got.Get("webhook-timestamp") != "1614265330" {
		t.Errorf("%v", got)
	}
}

func TestDelivers(t *testing.T) {
	w := newWorld(t)
	one, secret := w.hook("launch.running")
	below, _ := w.hook("launch.*")
	all, _ := w.hook("*")
	other, _, err := w.Create(t.Context(), "other", Spec{URL: w.endpoint.URL, Types: []string{"*"}, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	off, _, err := w.Create(t.Context(), "default", Spec{URL: w.endpoint.URL, Types: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	w.emit("launch.running")
	w.emit("launch.failed")
	w.emit("launches.x")
	w.round()
	for h, want := range map[*Hook]int{one: 1, below: 2, all: 3, off: 0} {
		if list := w.log(h); len(list) != want {
			t.Errorf("%v got %d events, want %d", h.Types, len(list), want)
		}
	}
	if list, err := w.Deliveries(t.Context(), "other", other.ID, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("another project's: %+v, %v", list, err)
	}
	d := w.log(one)[0]
	if d.State != Delivered || d.Tries != 1 || d.Last[0].Status != 204 || d.Last[0].Error != "" {
		t.Errorf("%+v", d)
	}
	found := false
	for _, r := range w.requests() {
		if r.header.Get("webhook-id") != d.ID {
			continue
		}
		found = true
		verify(t, secret, r)
		r.body[len(r.body)-3] ^= 1
		if signed(t, secret, r) {
			t.Error("a changed body fits")
		}
		if r.header.Get("Content-Type") != "application/json" || !strings.HasPrefix(r.header.Get("User-Agent"), "OpenMigrate/") {
			t.Errorf("%v", r.header)
		}
	}
	if !found {
		t.Error("it did not come")
	}
	h, err := w.Get(t.Context(), "default", one.ID)
	if err != nil || h.LastSuccess.IsZero() || !h.Failing.IsZero() {
		t.Errorf("%+v, %v", h, err)
	}
	b, err := json.Marshal(h)
	if err != nil || strings.Contains(string(b), secret[len("whsec_"):]) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestRetries(t *testing.T) {
	w := newWorld(t)
	h, secret := w.hook("*")
	w.answers(status(http.StatusInternalServerError))
	w.emit("a.b")
	begin := w.clock.Now()
	var at []time.Duration
	ids := map[string]bool{}
	for w.clock.Now().Sub(begin) < 100*time.Hour {
		w.round()
		for _, r := range w.requests() {
			verify(t, secret, r)
			ids[r.header.Get("webhook-id")] = true
			if r.header.Get("webhook-timestamp") != fmt.Sprint(w.clock.Now().Unix()) {
				t.Errorf("timestamp %s is not the try's", r.header.Get("webhook-timestamp"))
			}
			at = append(at, w.clock.Now().Sub(begin))
		}
		d := w.log(h)[0]
		if d.State != Waiting {
			break
		}
		w.clock.Advance(d.Next.Sub(w.clock.Now()))
	}
	if len(at) != len(retries)+1 || len(ids) != 1 {
		t.Fatalf("%d tries with %d ids: %v", len(at), len(ids), at)
	}
	for i, d := range retries {
		if wait := at[i+1] - at[i]; wait < d || wait > d+time.Duration(jitter*float64(d)) {
			t.Errorf("try %d came after %v, want %v and a little", i+2, wait, d)
		}
	}
	d := w.log(h)[0]
	if d.State != Failed || d.Tries != 10 || len(d.Last) != keptTries || d.Last[9].Status != 500 {
		t.Errorf("%+v", d)
	}
	if now, err := w.Get(t.Context(), "default", h.ID); err != nil || !now.Enabled || now.Failing.IsZero() {
		t.Errorf("%+v, %v", now, err)
	}
	w.answers(nil)
	if err := w.Resend(t.Context(), "default", h.ID, d.Sequence); err != nil {
		t.Fatal(err)
	}
	w.round()
	if d := w.log(h)[0]; d.State != Delivered {
		t.Errorf("%+v", d)
	}
	wantCode(t, "another project's", w.Resend(t.Context(), "other", h.ID, d.Sequence), wire.CodeNotFound)
	wantCode(t, "no such", w.Resend(t.Context(), "default", h.ID, 999), wire.CodeNotFound)
}

func TestRetryAfter(t *testing.T) {
	w := newWorld(t)
	h, _ := w.hook("*")
	for header, want := range map[string]time.Duration{"3600": time.Hour, "999999999": maxRetry, "-5": 5 * time.Second, "soon": 5 * time.Second, "1": 5 * time.Second} {
		w.answers(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", header)
			rw.WriteHeader(http.StatusTooManyRequests)
		})
		w.emit("a.b")
		w.round()
		d := w.log(h)[0]
		if wait := d.Next.Sub(w.clock.Now()); wait < want || wait > want+time.Second {
			t.Errorf("Retry-After %s: next try after %v, want %v", header, wait, want)
		}
	}
}

func TestEndpointsThatAreDisabled(t *testing.T) {
	w := newWorld(t)
	gone, _ := w.hook("gone.x")
	w.answers(status(http.StatusGone))
	w.emit("gone.x")
	w.round()
	now, err := w.Get(t.Context(), "default", gone.ID)
	if err != nil || now.Enabled || !strings.Contains(now.Disabled, "410") || len(w.shut) != 1 {
		t.Errorf("%+v, %v, %d told", now, err, len(w.shut))
	}
	w.emit("gone.x")
	wantCode(t, "ping", w.Ping(t.Context(), "default", gone.ID), wire.CodeConflict)
	w.requests()
	w.round()
	if n := len(w.requests()); n != 0 || len(w.log(gone)) != 1 {
		t.Errorf("%d requests to an endpoint that is gone", n)
	}

	dead, _ := w.hook("dead.x")
	w.answers(status(http.StatusBadGateway))
	for range 30 * 6 {
		w.emit("dead.x")
		w.round()
		w.clock.Advance(4 * time.Hour)
	}
	now, err = w.Get(t.Context(), "default", dead.ID)
	if err != nil || now.Enabled || !strings.Contains(now.Disabled, "took nothing for 5 days") || len(w.shut) != 2 {
		t.Errorf("%+v, %v, %d told", now, err, len(w.shut))
	}
	for _, d := range w.log(dead) {
		if d.State == Waiting {
			t.Errorf("%+v still waits", d)
		}
	}
	w.answers(nil)
	now, err = w.Change(t.Context(), "default", dead.ID, now.Revision, Spec{URL: dead.URL, Types: dead.Types, Enabled: true})
	if err != nil || !now.Failing.IsZero() || now.Disabled != "" {
		t.Errorf("%+v, %v", now, err)
	}
	if err := w.Ping(t.Context(), "default", dead.ID); err != nil {
		t.Fatal(err)
	}
	w.round()
	if d := w.log(dead)[0]; d.State != Delivered || d.Type != "webhook.test" {
		t.Errorf("%+v", d)
	}
}

func TestRotate(t *testing.T) {
	w := newWorld(t)
	h, first := w.hook("*")
	_, second, err := w.Rotate(t.Context(), "default", h.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.emit("a.b")
	w.round()
	r := w.requests()[0]
	verify(t, first, r)
	verify(t, second, r)
	w.clock.Advance(overlap + time.Second)
	w.emit("a.b")
	w.round()
	r = w.requests()[0]
	verify(t, second, r)
	if signed(t, first, r) {
		t.Error("the old secret still signs")
	}
	for range 10 {
		if _, _, err = w.Rotate(t.Context(), "default", h.ID); err != nil {
			t.Fatal(err)
		}
	}
	w.emit("a.b")
	w.round()
	if n := len(strings.Fields(w.requests()[0].header.Get("webhook-signature"))); n != 1+maxOld {
		t.Errorf("%d signatures", n)
	}
}

func TestSpecs(t *testing.T) {
	w := newWorld(t)
	good := Spec{URL: "https://example.com/hook?a=b", Types: []string{"a.b"}}
	for name, change := range map[string]func(*Spec){
		"no type": func(q *Spec) { q.Types = nil }, "types": func(q *Spec) { q.Types = make([]string, MaxTypes+1) }, "type": func(q *Spec) { q.Types = []string{"a b"} },
		"star inside": func(q *Spec) { q.Types = []string{"a.*.b"} }, "no URL": func(q *Spec) { q.URL = "" }, "relative": func(q *Spec) { q.URL = "/hook" },
		"file": func(q *Spec) { q.URL = "file:///etc/passwd" }, "gopher": func(q *Spec) { q.URL = "gopher://example.com/" }, "opaque": func(q *Spec) { q.URL = "https:example.com" },
		"password": func(q *Spec) { q.URL = "https://u:p@example.com/" }, "fragment": func(q *Spec) { q.URL = "https://example.com/#x" },
		"long": func(q *Spec) { q.URL = "https://example.com/" + strings.Repeat("a", maxURL) }, "loopback": func(q *Spec) { q.URL = "https://[::1]/" },
		"metadata": func(q *Spec) { q.URL = "https://169.254.169.254/latest" }, "mapped": func(q *Spec) { q.URL = "https://[::ffff:10.0.0.1]/" },
		"description": func(q *Spec) { q.Description = strings.Repeat("a", maxText+1) },
	} {
		q := good
		change(&q)
		_, _, err := w.Create(t.Context(), "default", q)
		wantCode(t, name, err, wire.CodeBadRequest)
	}
	strict := New(w.db, w.clock, nil)
	_, _, err := strict.Create(t.Context(), "default", Spec{URL: "http://example.com/", Types: []string{"*"}})
	wantCode(t, "plain HTTP", err, wire.CodeBadRequest)

	h, _ := w.hook("*")
	_, err = w.Change(t.Context(), "default", h.ID, h.Revision+1, good)
	wantCode(t, "stale", err, wire.CodeStale)
	_, err = w.Get(t.Context(), "other", h.ID)
	wantCode(t, "another project's", err, wire.CodeNotFound)
	wantCode(t, "another project's", w.Remove(t.Context(), "other", h.ID, 0), wire.CodeNotFound)
	_, _, err = w.Rotate(t.Context(), "other", h.ID)
	wantCode(t, "another project's", err, wire.CodeNotFound)
	_, err = w.Get(t.Context(), "default", strings.Repeat("x", 1<<20))
	wantCode(t, "huge id", err, wire.CodeNotFound)
	w.emit("a.b")
	if err := w.Remove(t.Context(), "default", h.ID, h.Revision); err != nil {
		t.Fatal(err)
	}
	w.round()
	if n := len(w.requests()); n != 0 {
		t.Errorf("%d requests for a webhook that was removed", n)
	}
	if err := w.db.View(t.Context(), func(tx store.Reader) error {
		for _, table := range []string{tableHooks.Name, tableDeliveries.Name, tableDue.Name} {
			if err := tx.Scan(table, nil, nil, func(k, _ []byte) error { t.Errorf("%s has %s", table, k); return nil }); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestEverythingIsBounded(t *testing.T) {
	w := newWorld(t)
	h, _ := w.hook("*")
	emit := func(n int) {
		if err := w.db.Update(t.Context(), func(tx store.Writer) error {
			for range n {
				if err := w.Append(tx, Event{Type: "a.b", Project: "default", Time: w.clock.Now()}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	emit(maxWaiting + 50)
	if n := len(w.log(h)); n != maxWaiting {
		t.Errorf("%d deliveries wait", n)
	}
	if err := w.db.Update(t.Context(), func(tx store.Writer) error { // as if all had been delivered
		list, err := deliveries(tx, h.ID)
		if err != nil {
			return err
		}
		for _, d := range list {
			was := d.Next
			if d.State, d.Next = Delivered, (time.Time{}); err == nil {
				err = put(tx, d, was)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	emit(1)
	if n := len(w.log(h)); n != maxLog {
		t.Errorf("%d deliveries in the log", n)
	}
	if err := w.Emit(t.Context(), Event{Type: "big.x", Project: "default", Data: strings.Repeat("x", 1<<20)}); err != nil {
		t.Fatal(err)
	}
	w.round()
	for _, r := range w.requests() {
		if len(r.body) > MaxPayload || !json.Valid(r.body) {
			t.Errorf("a body of %d bytes", len(r.body))
		}
	}
	for range MaxHooks - 1 {
		w.hook("z.z")
	}
	_, _, err := w.Create(t.Context(), "default", Spec{URL: w.endpoint.URL, Types: []string{"*"}})
	wantCode(t, "one too many", err, wire.CodeConflict)
}

// TestAnswersAreNotKept: what an endpoint says is nobody's to read here.
func TestAnswersAreNotKept(t *testing.T) {
	w := newWorld(t)
	h, _ := w.hook("*")
	w.answers(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-Planted", "planted")
		rw.WriteHeader(http.StatusInternalServerError)
		for range 1 << 10 {
			if _, err := rw.Write([]byte(strings.Repeat("planted", 1<<10))); err != nil {
				return
			}
		}
	})
	w.emit("a.b")
	w.round()
	b, err := json.Marshal(w.log(h))
	if err != nil || strings.Contains(string(b), "planted") || !strings.Contains(string(b), "500") {
		t.Errorf("%s, %v", b, err)
	}
}

// TestStopInTheMiddle: a delivery that was under way when the master stopped is sent again, with the same id.
func TestStopInTheMiddle(t *testing.T) {
	w := newWorld(t)
	h, _ := w.hook("*")
	arrived, hold := make(chan struct{}), make(chan struct{})
	w.answers(func(http.ResponseWriter, *http.Request) { close(arrived); <-hold })
	w.emit("a.b")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	<-arrived
	cancel()
	<-done
	close(hold)
	if d := w.log(h)[0]; d.State != Waiting || d.Tries != 0 {
		t.Errorf("%+v", d)
	}
	w.answers(nil)
	w.Service = New(w.db, w.clock, &w.options)
	w.round()
	got := w.requests()
	if len(got) != 2 || got[0].header.Get("webhook-id") != got[1].header.Get("webhook-id") || w.log(h)[0].State != Delivered {
		t.Errorf("%d requests, %+v", len(got), w.log(h)[0])
	}
}

// TestSlowEndpoints: they time out, and nobody waits for them but their own deliveries.
func TestSlowEndpoints(t *testing.T) {
	w := newWorld(t)
	w.Service = New(w.db, clock.Real{}, &w.options)
	w.timeout = 500 * time.Millisecond
	slow, _, err := w.Create(t.Context(), "default", Spec{URL: w.endpoint.URL + "/slow", Types: []string{"a.b"}, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	quick, _ := w.hook("a.b")
	hold := make(chan struct{})
	w.answers(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-hold
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	for range 5 {
		w.emit("a.b")
	}
	until := time.Now().Add(20 * time.Second)
	for {
		delivered := 0
		for _, d := range w.log(quick) {
			if d.State == Delivered {
				delivered++
			}
		}
		if list := w.log(slow); delivered == 5 && list[len(list)-1].Tries > 0 {
			if d := list[len(list)-1]; d.Last[0].Error == "" || d.Last[0].Status != 0 {
				t.Errorf("%+v", d)
			}
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%d delivered, %+v", delivered, w.log(slow))
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-done
	close(hold)
}
