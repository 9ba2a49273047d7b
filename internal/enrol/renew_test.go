package enrol

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/internal/statedir"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/wire"
)

// age replaces a member's certificate by one that the master signed some time ago.
func (m *master) age(dir *statedir.Dir, kind string, ago time.Duration) {
	m.t.Helper()
	past, err := ca.Open(m.caDir, clock.NewFake(m.env.Clock.Now().Add(-ago)))
	if err != nil {
		m.t.Fatal(err)
	}
	id, err := dir.Identity()
	if err != nil {
		m.t.Fatal(err)
	}
	csr, err := request(id.Key)
	if err != nil {
		m.t.Fatal(err)
	}
	if id.Certificate, _, err = past.Sign(csr, ca.Identity{Kind: kind, Project: id.Project, ID: id.ID}); err != nil {
		m.t.Fatal(err)
	}
	if err := dir.SetIdentity(id); err != nil {
		m.t.Fatal(err)
	}
}

func TestRenew(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		age  time.Duration // of the certificate, for the master
		jump time.Duration // of the member's clock
		due  bool
		asks []string // of an agent
		fail string   // code
	}{
		"young":                      {age: time.Hour, asks: []string{wire.PathAgentRenew}},
		"old":                        {age: 17 * time.Hour, due: true, asks: []string{wire.PathAgentRenew}},
		"expired":                    {age: 25 * time.Hour, due: true, asks: []string{wire.PathRenewExpired}},
		"expired a month ago":        {age: 30 * day, due: true, asks: []string{wire.PathRenewExpired}},
		"expired for too long":       {age: 33 * day, due: true, asks: []string{wire.PathRenewExpired, wire.PathAgentRenew}, fail: wire.CodeUnauthorized},
		"clock jumps a day ahead":    {age: time.Hour, jump: day, due: true, asks: []string{wire.PathRenewExpired}},
		"clock jumps a day back":     {age: time.Hour, jump: -day, asks: []string{wire.PathAgentRenew}},
		"expired and a clock behind": {age: 25 * time.Hour, jump: -day, asks: []string{wire.PathAgentRenew, wire.PathRenewExpired}},
	} {
		for _, kind := range []string{Agent, Node} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				m, dir := newMaster(t), openDir(t)
				o, nap := m.options(dir, kind, m.token(kind))
				m.join(o)
				m.age(dir, kind, c.age)
				member := m.join(o)
				nap.clock.Advance(c.jump)
				before := member.Certificate().Leaf
				if due := Due(before, nap.clock.Now()); due != c.due {
					t.Errorf("due: %v", due)
				}
				m.asked()
				err := member.Renew(t.Context())
				asks := slices.Clone(c.asks)
				for i := range asks {
					if kind == Node && asks[i] == wire.PathAgentRenew {
						asks[i] = wire.PathNodeRenew
					}
				}
				if got := m.asked(); !slices.Equal(got, asks) {
					t.Errorf("asked %v, want %v", got, asks)
				}
				if c.fail != "" {
					if !wire.HasCode(err, c.fail) || member.Certificate().Leaf != before {
						t.Errorf("got %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Equal(before.RawSubjectPublicKeyInfo, member.Certificate().Leaf.RawSubjectPublicKeyInfo) {
					t.Error("the renewed certificate has the old key")
				}
				stored, err := dir.Identity()
				if err != nil || !bytes.Equal(stored.Certificate[0], member.Certificate().Certificate[0]) {
					t.Errorf("what is used is not what was kept: %v", err)
				}
				noKeysBeside(t, dir)
				if err := m.greet(member, dir); err != nil {
					t.Errorf("hello: %v", err)
				}
			})
		}
	}
}

// TestRenewAgain: a lost answer is asked for again with the same key, and the old certificate is good until then.
func TestRenewAgain(t *testing.T) {
	m, dir := newMaster(t), openDir(t)
	o, _ := m.options(dir, Agent, m.token(Agent))
	member := m.join(o)
	before := member.Certificate().Leaf
	m.meet(1, lost)
	if err := member.Renew(t.Context()); !wire.Passing(err) {
		t.Fatalf("got %v", err)
	}
	var first pending
	if ok, err := dir.Read(renewing, &first); err != nil || !ok || len(first.Key) == 0 {
		t.Fatalf("the key is not kept: %v", err)
	}
	if err := m.greet(member, dir); err != nil || member.Certificate().Leaf != before {
		t.Errorf("with the old certificate: %v", err)
	}
	member = m.join(o) // a restart
	if err := member.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(member.Identity().Key, first.Key) {
		t.Error("another key was made")
	}
}

// TestRenewals lives through three days: renewed in time, the master away for a while, a clock that jumps a day, and the end.
func TestRenewals(t *testing.T) {
	m, dir := newMaster(t), openDir(t)
	o, nap := m.options(dir, Agent, m.token(Agent))
	member := m.join(o)
	first := member.Certificate().Leaf
	const away = 6
	var renewed, back, jumped int
	leaf := first
	nap.wake = func(n int) error {
		// The master's clock goes on with the member's, but for its jump.
		m.env.Clock.Advance(nap.waits[n-1])
		now := member.Certificate().Leaf
		switch {
		case n == 1:
			m.meet(away, down)
		case now != leaf && renewed == 0:
			renewed, leaf = n, now
			nap.clock.Advance(24 * time.Hour)
		case now != leaf && jumped == 0:
			jumped, leaf = n, now
			if err := m.registry.Revoke(t.Context(), Agent, member.Identity().ID, "test"); err != nil {
				t.Error(err)
			}
			nap.clock.Advance(24 * time.Hour)
		case jumped != 0:
			back++
		}
		if n > 3*24*60 {
			return errors.New("it never ends")
		}
		return nil
	}
	m.asked()
	err := member.Renewals(t.Context())
	if !wire.HasCode(err, wire.CodeRevoked) || !Final(err) {
		t.Errorf("ended with %v after %d waits", err, len(nap.waits))
	}
	if jumped != renewed+1 || back != 0 {
		t.Errorf("renewed at wait %d, after the jump at %d, then %d waits", renewed, jumped, back)
	}
	if len(nap.waiting) != away {
		t.Errorf("told of waiting: %v", nap.waiting)
	}
	due := 16 * 60 // minutes
	if renewed < due || renewed > due+away+10 {
		t.Errorf("renewed at wait %d, want soon after minute %d", renewed, due)
	}
	for i, d := range nap.waits[:renewed] {
		n := i - (renewed - 1 - away)
		if n < 0 || n >= away {
			if d != renewCheck {
				t.Fatalf("wait %d is %s", i, d)
			}
		} else if most := min(renewCheck/4<<n, 10*renewCheck); d < most/2 || d > most {
			t.Errorf("wait %d while the master was away is %s, want %s to %s", n, d, most/2, most)
		}
	}
}

func TestRenewalsEndWithTheirContext(t *testing.T) {
	m := newMaster(t)
	o, _ := m.options(openDir(t), Agent, m.token(Agent))
	o.sleep = nil
	member := m.join(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- member.Renewals(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestBackoff(t *testing.T) {
	b := NewBackoff(time.Second, 5*time.Second)
	different := map[time.Duration]bool{}
	for range 2 {
		for _, most := range []time.Duration{1, 2, 4, 5, 5, 5} {
			d := b.Step()
			different[d] = true
			if most *= time.Second; d < most/2 || d > most {
				t.Errorf("%s, want %s to %s", d, most/2, most)
			}
		}
		b.Reset()
	}
	if len(different) < 3 {
		t.Error("there is no chance in it")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCut)
	if err := b.Wait(ctx); !errors.Is(err, errCut) {
		t.Errorf("got %v", err)
	}
}
