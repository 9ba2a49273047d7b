package ebsdirect

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
)

// simulation is time that passes only by waiting.
type simulation struct {
	*clock.Fake
	start time.Time
}

func simulate(l Limits) (*Pacer, *simulation) {
	s := &simulation{start: time.Unix(1.7e9, 0)}
	s.Fake = clock.NewFake(s.start)
	return NewPacer(l, s, func(ctx context.Context, d time.Duration) error { s.Advance(d); return ctx.Err() }), s
}

// most is the highest number of times in any second.
func most(at []time.Time) (n int) {
	for i, j := 0, 0; j < len(at); j++ {
		for at[j].Sub(at[i]) >= time.Second {
			i++
		}
		n = max(n, j-i+1)
	}
	return n
}

func TestPaceKeepsTheQuota(t *testing.T) {
	for _, c := range []struct {
		name    string
		limits  Limits
		call    func(*Pacer) error
		quota   int
		seconds float64
	}{
		{"puts", Limits{}, func(p *Pacer) error { return p.put(t.Context(), "s") }, 1000, 20},
		{"puts of one snapshot in a large account", Limits{AccountPuts: 50_000}, func(p *Pacer) error { return p.put(t.Context(), "s") }, 1000, 20},
		{"a part of the quota", Limits{AccountPuts: 250}, func(p *Pacer) error { return p.put(t.Context(), "s") }, 250, 20},
		{"starts", Limits{}, func(p *Pacer) error { return p.start(t.Context()) }, 10, 20},
		{"completes", Limits{}, func(p *Pacer) error { return p.complete(t.Context()) }, 10, 20},
	} {
		p, s := simulate(c.limits)
		var at []time.Time
		for i := 0; s.Now().Sub(s.start).Seconds() < c.seconds; i++ {
			if i == 40 {
				s.Advance(5 * time.Second) // somebody slept: what was not used then is not made up for
			}
			if i%7 == 0 {
				s.Advance(300 * time.Microsecond) // and work takes its time
			}
			if err := c.call(p); err != nil {
				t.Fatal(err)
			}
			at = append(at, s.Now())
		}
		if n := most(at); n > c.quota {
			t.Errorf("%s: %d in a second, the quota is %d", c.name, n, c.quota)
		}
		// What forecasts count with.
		if got, want := float64(len(at))/(c.seconds-5), Share*float64(c.quota); got < 0.95*want || got > 1.05*want {
			t.Errorf("%s: %.1f a second, want %.1f", c.name, got, want)
		}
	}
}

func TestPaceSharedByTwoSnapshots(t *testing.T) {
	p, s := simulate(Limits{})
	var at []time.Time
	for i := 0; s.Now().Sub(s.start) < 5*time.Second; i++ {
		if err := p.put(t.Context(), []string{"a", "b"}[i%2]); err != nil {
			t.Fatal(err)
		}
		at = append(at, s.Now())
	}
	if n := most(at); n > 1000 {
		t.Errorf("%d in a second", n)
	}
}

func TestThrottled(t *testing.T) {
	p, s := simulate(Limits{})
	count := func(d time.Duration) (n int) {
		for end := s.Now().Add(d); s.Now().Before(end); n++ {
			if err := p.put(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	full := count(time.Second)
	for range 100 { // all that were under way together count once
		p.throttled(actionPut, "a", false)
	}
	if n := count(time.Second); n > full/2+20 || n < full/4 {
		t.Errorf("%d after a refusal, %d before", n, full)
	}
	if p.Rate() > 0.62*1000 {
		t.Errorf("rate %v right after a refusal", p.Rate())
	}
	count(15 * time.Second)
	if p.Rate() < 0.97*1000 {
		t.Errorf("rate %v long after it", p.Rate())
	}
	// What is refused all the time still asks now and then, and a snapshot's own limit leaves the others alone.
	for range 60 {
		p.throttled(actionPut, "a", true)
		s.Advance(2 * time.Second)
	}
	p.throttled(actionPut, "a", true)
	b := p.snapshots["a"]
	if b.rate < 0.005*1000 || b.rate > 0.2*1000 || p.Rate() < 0.97*1000 {
		t.Errorf("snapshot %v, account %v", b.rate, p.Rate())
	}
	p.throttled(actionStart, "", false)
	p.throttled(actionComplete, "", false)
	if p.starts.rate > 6 || p.completes.rate > 6 {
		t.Errorf("starts %v, completes %v", p.starts.rate, p.completes.rate)
	}
}

func TestPending(t *testing.T) {
	p, _ := simulate(Limits{Pending: 2})
	for range 2 {
		if err := p.open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a third one: %v", err)
	}
	p.close("a")
	if err := p.open(t.Context()); err != nil {
		t.Error(err)
	}
}
