package enrol

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/statedir"
	"github.com/openmigrate/openmigrate/wire"
)

// TestEnrol: a master that is away is waited for, an answer that is lost is asked for again with the same keys (the token is good
// for one member), and the identity survives a restart without a token.
func TestEnrol(t *testing.T) {
	for _, kind := range []string{Agent, Node} {
		t.Run(kind, func(t *testing.T) {
			m, dir := newMaster(t), openDir(t)
			o, nap := m.options(dir, kind, m.token(kind))
			m.meet(1, lost)
			nap.wake = func(n int) error {
				if n == 1 {
					m.meet(5, down)
				}
				return nil
			}
			member := m.join(o)
			if got := m.asked(); len(got) != 7 || count(got, wire.PathEnroll) != 7 {
				t.Errorf("asked %v", got)
			}
			if len(nap.waiting) != 6 || slices.Contains(nap.waiting, Renewing) {
				t.Errorf("told of waiting: %v", nap.waiting)
			}
			for i, d := range nap.waits {
				if most := min(time.Second<<i, 30*time.Second); d < most/2 || d > most {
					t.Errorf("wait %d is %s, want %s to %s", i, d, most/2, most)
				}
			}
			noKeysBeside(t, dir)
			if err := m.greet(member, dir); err != nil {
				t.Errorf("hello: %v", err)
			}
			m.asked()
			o.Token = ""
			again := m.join(o)
			if again.Identity().ID != member.Identity().ID || len(m.asked()) != 0 {
				t.Errorf("after a restart: %s, was %s", again.Identity().ID, member.Identity().ID)
			}
			if err := m.greet(again, dir); err != nil {
				t.Errorf("hello after a restart: %v", err)
			}
		})
	}
}

func TestEnrolRefused(t *testing.T) {
	m, other := newMaster(t), newMaster(t)
	used := m.token(Agent)
	o, _ := m.options(openDir(t), Agent, used)
	m.join(o)
	m.asked()
	good := m.token(Agent)
	stale := func(p *wire.Problem) bool { return p.Code == wire.CodeTokenUsed }
	for name, c := range map[string]struct {
		token   string
		is      error
		code    string
		arrives int // requests
	}{
		"no token":         {},
		"damaged":          {token: good[:len(good)/2]},
		"used":             {token: used, code: wire.CodeTokenUsed, arrives: 1},
		"wrong secret":     {token: another(t, good, func(k *wire.EnrolToken) { k.Secret = otherSecret }), code: wire.CodeUnauthorized, arrives: 1},
		"pin of another":   {token: another(t, good, func(k *wire.EnrolToken) { k.Pin = wire.Pin(other.ca.Certificate()) }), is: wire.ErrUntrusted},
		"of another kind":  {token: m.token(Node), code: wire.CodeForbidden, arrives: 1},
		"master elsewhere": {token: another(t, good, func(k *wire.EnrolToken) { k.URL = other.url }), is: wire.ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			dir := openDir(t)
			o, nap := m.options(dir, Agent, c.token)
			_, err := Join(t.Context(), o)
			var p *wire.Problem
			switch {
			case err == nil:
				t.Fatal("joined")
			case c.is != nil && !errors.Is(err, c.is), c.code != "" && !wire.HasCode(err, c.code):
				t.Errorf("got %v", err)
			case errors.As(err, &p) && stale(p) && (p.Next == "" || !Final(err)):
				t.Errorf("the operator is not told what to do: %+v", p)
			}
			if got := append(m.asked(), other.asked()...); len(got) != c.arrives || len(nap.waits) != 0 {
				t.Errorf("asked %v, waited %v", got, nap.waits)
			}
			if id, err := dir.Identity(); id != nil || err != nil {
				t.Errorf("an identity was kept: %v, %v", id, err)
			}
		})
	}
	o, _ = m.options(openDir(t), Agent, good)
	m.join(o) // the refusals have not spent it
	expired := m.token(Agent)
	m.env.Clock.Advance(25 * time.Hour)
	o, _ = m.options(openDir(t), Agent, expired)
	if _, err := Join(t.Context(), o); !wire.HasCode(err, wire.CodeTokenExpired) || !Final(err) {
		t.Errorf("expired token: %v", err)
	}
}

// TestStopWhileEnrolling: an answer that breaks off as the process is told to stop is a stop, and no failure.
func TestStopWhileEnrolling(t *testing.T) {
	m := newMaster(t)
	o, nap := m.options(openDir(t), Agent, m.token(Agent))
	ctx, cancel := context.WithCancel(t.Context())
	m.meet(1, func(string, func() []byte) []byte {
		cancel()
		return nil
	})
	if _, err := Join(ctx, o); !errors.Is(err, context.Canceled) || len(nap.waits) != 0 {
		t.Errorf("got %v after %d waits", err, len(nap.waits))
	}
	m.join(o)
}

// TestForgedAnswers: what the answer says is checked, although the connection was trusted.
func TestForgedAnswers(t *testing.T) {
	m, other := newMaster(t), newMaster(t)
	foreign, _ := other.options(openDir(t), Agent, other.token(Agent))
	stranger := other.join(foreign).Identity()
	for name, change := range map[string]func(*wire.EnrollResponse){
		"CA of another":          func(a *wire.EnrollResponse) { a.CA = other.ca.Certificate().Raw },
		"no CA":                  func(a *wire.EnrollResponse) { a.CA = nil },
		"no certificate":         func(a *wire.EnrollResponse) { a.Certificate = nil },
		"certificate of another": func(a *wire.EnrollResponse) { a.Certificate = stranger.Certificate },
		"no id":                  func(a *wire.EnrollResponse) { a.ID = "" },
	} {
		t.Run(name, func(t *testing.T) {
			dir := openDir(t)
			o, _ := m.options(dir, Agent, m.token(Agent))
			m.meet(1, func(_ string, serve func() []byte) []byte {
				var a wire.EnrollResponse
				if err := json.Unmarshal(serve(), &a); err != nil {
					t.Error(err)
				}
				change(&a)
				b, err := json.Marshal(a)
				if err != nil {
					t.Error(err)
				}
				return b
			})
			if _, err := Join(t.Context(), o); err == nil {
				t.Error("taken")
			}
			if id, err := dir.Identity(); id != nil || err != nil {
				t.Errorf("kept: %v, %v", id, err)
			}
			m.join(o) // the token is still ours
		})
	}
}

// errCut is the end of a process.
var errCut = errors.New("power cut")

// cutDir loses power at its n-th write, just before or just after it.
type cutDir struct {
	*statedir.Dir
	n     int
	after bool
}

func (d *cutDir) cut(write func() error) error {
	if d.n--; d.n > 0 {
		return write()
	}
	if d.n == 0 && d.after {
		if err := write(); err != nil {
			return err
		}
	}
	return errCut
}

func (d *cutDir) Write(name string, v any) error {
	return d.cut(func() error { return d.Dir.Write(name, v) })
}

func (d *cutDir) SetIdentity(id *statedir.Identity) error {
	return d.cut(func() error { return d.Dir.SetIdentity(id) })
}

// TestPowerCut cuts the power before and after each write of an enrolment and of a renewal, with the answer heard and lost. The
// token is good for one member, so that any loss of keys shows.
func TestPowerCut(t *testing.T) {
	for _, kind := range []string{Agent, Node} {
		for _, after := range []bool{false, true} {
			for n, done := 1, false; !done; n++ {
				m, dir := newMaster(t), openDir(t)
				token := m.token(kind)
				o, _ := m.options(&cutDir{dir, n, after}, kind, token)
				_, err := Join(t.Context(), o)
				if done = err == nil; !done && !errors.Is(err, errCut) {
					t.Fatal(err)
				}
				o, _ = m.options(dir, kind, token)
				member := m.join(o)
				if err := m.greet(member, dir); err != nil {
					t.Errorf("%s: enrolment cut at write %d (after it: %v): %v", kind, n, after, err)
				}
				noKeysBeside(t, dir)
			}
			m, dir := newMaster(t), openDir(t)
			o, _ := m.options(dir, kind, m.token(kind))
			m.join(o)
			for n, done := 1, false; !done; n++ {
				o.Dir = &cutDir{dir, n, after}
				member, err := Join(t.Context(), o)
				if errors.Is(err, errCut) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if err = member.Renew(t.Context()); err != nil && !errors.Is(err, errCut) {
					t.Fatal(err)
				}
				done = err == nil
				member.Client().Close()
				o.Dir = dir
				member = m.join(o)
				if err := m.greet(member, dir); err != nil {
					t.Errorf("%s: renewal cut at write %d (after it: %v): %v", kind, n, after, err)
				}
			}
			noKeysBeside(t, dir)
		}
	}
}

// TestSecrets: neither the token's secret nor a key is in a log or an error.
func TestSecrets(t *testing.T) {
	m, dir := newMaster(t), openDir(t)
	text := m.token(Agent)
	tok, err := wire.ParseEnrolToken(text)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	o, nap := m.options(dir, Agent, text)
	o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Waiting = func(_ string, err error) { log.WriteString(err.Error()) }
	m.meet(2, lost)
	member := m.join(o)
	m.meet(2, down)
	nap.clock.Advance(20 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	nap.waits, nap.wake = nil, func(n int) error {
		if n == 3 {
			cancel()
		}
		return nil
	}
	if err := member.Renewals(ctx); err != nil {
		t.Fatal(err)
	}
	id := member.Identity()
	thief, _ := m.options(openDir(t), Agent, text)
	if _, err = Join(t.Context(), thief); err == nil {
		t.Fatal("the token worked twice")
	}
	log.WriteString(err.Error())
	id.Key[10] ^= 1 // damaged on disk
	if err := dir.SetIdentity(id); err != nil {
		t.Fatal(err)
	}
	if _, err = Join(t.Context(), o); err == nil {
		t.Fatal("joined with a damaged key")
	}
	log.WriteString(err.Error())
	for name, secret := range map[string]string{"token": text, "secret": tok.Secret, "key": base64.StdEncoding.EncodeToString(id.Key[20:60]),
		"signing key": base64.StdEncoding.EncodeToString(id.SigningKey)} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%s is in:\n%s", name, log.String())
		}
	}
	if !strings.Contains(log.String(), "certificate renewed") || !strings.Contains(log.String(), "enrolled") {
		t.Errorf("the log says too little:\n%s", log.String())
	}
}
