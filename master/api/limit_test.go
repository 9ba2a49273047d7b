package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

func TestAddressesAreLimitedEach(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := newAddresses(2, 3, 10)
	good := func(remote string) int {
		for n := 0; ; n++ {
			if _, ok := a.allow(remote, now); !ok {
				return n
			}
		}
	}
	for _, tt := range []struct {
		remote string
		want   int
	}{
		{"192.0.2.1:1000", 3}, {"192.0.2.1:2000", 0}, {"[::ffff:192.0.2.1]:3", 0}, {"192.0.2.2:1000", 3},
		{"[2001:db8::1]:1", 3}, {"[2001:db8::ffff:2%eth0]:1", 0}, {"[2001:db8:0:1::1]:1", 3}, {"nonsense", 3}, {"@", 0},
	} {
		if got := good(tt.remote); got != tt.want {
			t.Errorf("%s: %d requests go on, want %d", tt.remote, got, tt.want)
		}
	}
	wait, ok := a.allow("192.0.2.1:1", now)
	if ok || wait != time.Second/2 {
		t.Errorf("wait %v, %v; want half a second", wait, ok)
	}
	now = now.Add(wait)
	if n := good("192.0.2.1:1"); n != 1 {
		t.Errorf("%d requests go on after the wait, want 1", n)
	}
}

// TestAddressesAreBounded: many addresses take no more memory than some, share a limit when there are too many, and take
// nothing from those that were there before.
func TestAddressesAreBounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := newAddresses(1, 2, 10)
	went := 0
	for i := range 1000 {
		if _, ok := a.allow(fmt.Sprintf("10.0.%d.%d:1", i/250, i%250), now); ok {
			went++
		}
	}
	if len(a.each) != 10 || went != 12 {
		t.Errorf("%d addresses are remembered and %d requests went on, want 10 and 12", len(a.each), went)
	}
	if _, ok := a.allow("10.0.0.0:1", now); !ok {
		t.Error("an address is forgotten while others come")
	}
	now = now.Add(2 * time.Second)
	if _, ok := a.allow("192.0.2.1:1", now); !ok || len(a.each) != 1 {
		t.Errorf("%d addresses are remembered when all were quiet", len(a.each))
	}
}

// TestEnrolmentIsLimited knocks until it is told to wait, and hears when to come again. Others are served.
func TestEnrolmentIsLimited(t *testing.T) {
	w := newWorld(t)
	client := w.raw(true)
	knock := func() *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+wire.PathEnroll, strings.NewReader("{"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	for n := 0; ; n++ {
		res := knock()
		retry := res.Header.Get("Retry-After")
		p := problem(t, res)
		if p.Code == wire.CodeBadRequest {
			if n > 100*enrolBurst {
				t.Fatalf("%d requests went on", n)
			}
			continue
		}
		if n < enrolBurst || p.Status != http.StatusTooManyRequests || retry != "1" || !wire.Passing(p) {
			t.Errorf("after %d: %+v, again after %q", n, p, retry)
		}
		break
	}
	if _, err := w.admin().Machines(t.Context()); err != nil {
		t.Errorf("somebody with a token: %v", err)
	}
}

// deadlines notes what a handler sets.
type deadlines struct {
	*httptest.ResponseRecorder
	write []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.write = append(d.write, t)
	return nil
}

// TestEnrolmentEndsInTime: an answer to somebody unknown has a deadline, which is gone when the connection is used again. Long polls
// have none.
func TestEnrolmentEndsInTime(t *testing.T) {
	w := newWorld(t)
	for path, limited := range map[string]bool{wire.PathEnroll: true, wire.PathAgentReport: false} {
		d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		start := time.Now()
		w.handler.ServeHTTP(d, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader("{}")))
		if !limited {
			if len(d.write) != 0 {
				t.Errorf("%s: deadlines %v", path, d.write)
			}
			continue
		}
		if n := len(d.write); n < 2 || !d.write[n-1].IsZero() || !d.Flushed {
			t.Fatalf("%s: deadlines %v, flushed %v", path, d.write, d.Flushed)
		}
		for _, at := range d.write[:len(d.write)-1] {
			if at.Before(start.Add(enrolAnswer)) || at.After(time.Now().Add(enrolAnswer)) {
				t.Errorf("%s: deadline %v after the start", path, at.Sub(start))
			}
		}
	}
}
