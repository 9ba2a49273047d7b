package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
	"github.com/openmigrate/openmigrate/wire"
)

// machines counts what enrolment makes, and may fail.
type machines struct {
	mu   sync.Mutex
	made int   // guarded by mu
	err  error // guarded by mu
}

func (m *machines) Enrol(_ context.Context, _ string, r *wire.EnrollRequest) (id, name string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return "", "", m.err
	}
	m.made++
	return fmt.Sprintf("m%d", m.made), r.Name, nil
}

type world struct {
	t        *testing.T
	r        *Registry
	db       store.Store
	ca       *ca.CA
	clock    *clock.Fake
	machines *machines
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)), machines: &machines{}}
	var err error
	if w.db, err = boltstore.Open(filepath.Join(t.TempDir(), "db"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.ca, err = ca.Open(t.TempDir(), w.clock); err != nil {
		t.Fatal(err)
	}
	w.restart()
	return w
}

func (w *world) restart() {
	w.t.Helper()
	var err error
	if w.r, err = Open(w.t.Context(), w.db, w.ca, w.clock, w.machines, make(ed25519.PublicKey, ed25519.PublicKeySize)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) token(kind string, uses int) *wire.EnrolToken {
	w.t.Helper()
	_, text, err := w.r.NewEnrolToken(w.t.Context(), "https://localhost:1", "default", kind, "test", 0, uses)
	if err != nil {
		w.t.Fatal(err)
	}
	tok, err := wire.ParseEnrolToken(text)
	if err != nil {
		w.t.Fatal(err)
	}
	return tok
}

// request is what an agent or node with a fresh key sends.
func (w *world) request(tok *wire.EnrolToken, kind string) *wire.EnrollRequest {
	w.t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return &wire.EnrollRequest{Kind: kind, TokenID: tok.ID, Secret: tok.Secret, CSR: csr, Name: "host", Fingerprint: "f",
		SigningKey: public, SigningSig: ed25519.Sign(key, csr)}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if !wire.HasCode(err, code) {
		t.Errorf("got %v, want code %s", err, code)
	}
}

func TestEnrollRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(w *world, q *wire.EnrollRequest)
		code   string
	}{
		"wrong secret":     {func(_ *world, q *wire.EnrollRequest) { q.Secret = strings.Repeat("0", 32) }, wire.CodeUnauthorized},
		"unknown token":    {func(_ *world, q *wire.EnrollRequest) { q.TokenID = strings.Repeat("0", 16) }, wire.CodeUnauthorized},
		"huge token id":    {func(_ *world, q *wire.EnrollRequest) { q.TokenID = strings.Repeat("0", 1<<20) }, wire.CodeUnauthorized},
		"expired":          {func(w *world, _ *wire.EnrollRequest) { w.clock.Advance(DefaultTokenValid + time.Second) }, wire.CodeTokenExpired},
		"other kind":       {func(_ *world, q *wire.EnrollRequest) { q.Kind = ca.KindNode }, wire.CodeForbidden},
		"damaged request":  {func(_ *world, q *wire.EnrollRequest) { q.CSR = q.CSR[:20] }, wire.CodeBadRequest},
		"no proof of key":  {func(_ *world, q *wire.EnrollRequest) { q.SigningSig[0] ^= 1 }, wire.CodeBadRequest},
		"no signing key":   {func(_ *world, q *wire.EnrollRequest) { q.SigningKey = nil }, wire.CodeBadRequest},
		"name without end": {func(_ *world, q *wire.EnrollRequest) { q.Name = strings.Repeat("a", 300) }, wire.CodeBadRequest},
		"removed token": {func(w *world, q *wire.EnrollRequest) {
			if err := w.r.RemoveEnrolToken(w.t.Context(), q.TokenID); err != nil {
				w.t.Fatal(err)
			}
		}, wire.CodeUnauthorized},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tok := w.token(ca.KindAgent, 1)
			q := w.request(tok, ca.KindAgent)
			tt.change(w, q)
			_, err := w.r.Enroll(t.Context(), q)
			wantCode(t, err, tt.code)
			if w.machines.made != 0 {
				t.Error("a machine was made")
			}
			list, err := w.r.EnrolTokens(t.Context(), "default")
			if err != nil {
				t.Fatal(err)
			}
			for _, tok := range list {
				if tok.Uses != 1 {
					t.Error("a use was spent")
				}
				if tok.Secret != nil {
					t.Error("the list shows hashes")
				}
			}
		})
	}
}

func TestOneUseGivesOneIdentity(t *testing.T) {
	w := newWorld(t)
	tok := w.token(ca.KindAgent, 1)
	q := w.request(tok, ca.KindAgent)
	const tries = 8
	var wg sync.WaitGroup
	ids := make([]string, tries)
	for i := range tries {
		wg.Go(func() {
			out, err := w.r.Enroll(t.Context(), q)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = out.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("the same key got %s and %s", ids[0], id)
		}
	}
	if w.machines.made != 1 {
		t.Errorf("%d machines", w.machines.made)
	}
	_, err := w.r.Enroll(t.Context(), w.request(tok, ca.KindAgent))
	wantCode(t, err, wire.CodeTokenUsed)

	other := *q
	other.SigningKey, _, _ = ed25519.GenerateKey(nil)
	_, err = w.r.Enroll(t.Context(), &other)
	wantCode(t, err, wire.CodeBadRequest)
}

func TestEnrollAgainAfterTheMasterFailed(t *testing.T) {
	w := newWorld(t)
	tok := w.token(ca.KindAgent, 1)
	q := w.request(tok, ca.KindAgent)
	w.machines.err = errors.New("disk is full")
	if _, err := w.r.Enroll(t.Context(), q); err == nil {
		t.Fatal("enrolled without a machine")
	}
	_, err := w.r.Enroll(t.Context(), w.request(tok, ca.KindAgent))
	wantCode(t, err, wire.CodeTokenUsed)
	w.machines.err = nil
	w.restart()
	if _, err := w.r.Enroll(t.Context(), q); err != nil {
		t.Errorf("the one who took the use: %v", err)
	}
}

func TestRevokedMayNotEnrolAgainWithItsKey(t *testing.T) {
	w := newWorld(t)
	q := w.request(w.token(ca.KindAgent, 1), ca.KindAgent)
	out, err := w.r.Enroll(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.r.Revoke(t.Context(), ca.KindAgent, out.ID, "stolen"); err != nil {
		t.Fatal(err)
	}
	_, err = w.r.Enroll(t.Context(), q)
	wantCode(t, err, wire.CodeRevoked)
}

func TestTokenOfManyUses(t *testing.T) {
	w := newWorld(t)
	tok := w.token(ca.KindNode, 3)
	for range 3 {
		if _, err := w.r.Enroll(t.Context(), w.request(tok, ca.KindNode)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.r.Enroll(t.Context(), w.request(tok, ca.KindNode))
	wantCode(t, err, wire.CodeTokenUsed)
	nodes, err := w.r.Nodes(t.Context(), "default")
	if err != nil || len(nodes) != 3 {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
	list, err := w.r.EnrolTokens(t.Context(), "default")
	if err != nil || len(list) != 1 || len(list[0].UsedBy) != 3 {
		t.Errorf("tokens %+v, %v", list, err)
	}
	for _, bad := range []func() error{
		func() error {
			_, _, err := w.r.NewEnrolToken(t.Context(), "u", "p", "king", "", 0, 1)
			return err
		},
		func() error {
			_, _, err := w.r.NewEnrolToken(t.Context(), "u", "p", ca.KindAgent, "", maxTokenValid+1, 1)
			return err
		},
		func() error {
			_, _, err := w.r.NewEnrolToken(t.Context(), "u", "p", ca.KindAgent, "", 0, maxTokenUses+1)
			return err
		},
	} {
		wantCode(t, bad(), wire.CodeBadRequest)
	}
}

func TestRevokeEndsWhatIsUnderWay(t *testing.T) {
	who := ca.Identity{Kind: ca.KindAgent, Project: "default", ID: "m1", Serial: "a1"}
	for name, revoke := range map[string]func(*Registry) error{
		"identity": func(r *Registry) error { return r.Revoke(context.Background(), who.Kind, who.ID, "stolen") },
		"serial":   func(r *Registry) error { return r.RevokeSerial(context.Background(), who.Serial, "stolen") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx, done, err := w.r.Admit(t.Context(), who)
			if err != nil {
				t.Fatal(err)
			}
			bystander, bystanderDone, err := w.r.Admit(t.Context(), ca.Identity{Kind: ca.KindNode, ID: "m1", Serial: "b2"})
			if err != nil {
				t.Fatal(err)
			}
			if err := revoke(w.r); err != nil {
				t.Fatal(err)
			}
			wantCode(t, context.Cause(ctx), wire.CodeRevoked)
			if bystander.Err() != nil {
				t.Error("somebody else was cut off")
			}
			done()
			bystanderDone()
			if len(w.r.live) != 0 {
				t.Errorf("%d requests are left", len(w.r.live))
			}
			_, _, err = w.r.Admit(t.Context(), who)
			wantCode(t, err, wire.CodeRevoked)
			w.restart()
			_, _, err = w.r.Admit(t.Context(), who)
			wantCode(t, err, wire.CodeRevoked)
		})
	}
}

func TestSerialsAreRecorded(t *testing.T) {
	w := newWorld(t)
	q := w.request(w.token(ca.KindNode, 1), ca.KindNode)
	out, err := w.r.Enroll(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	who := ca.Identity{Kind: ca.KindNode, Project: "default", ID: out.ID}
	var last *wire.RenewResponse
	for range maxIssued + 3 {
		if last, err = w.r.Renew(t.Context(), who, q.CSR); err != nil {
			t.Fatal(err)
		}
	}
	list, err := w.r.Issued(t.Context(), ca.KindNode, out.ID)
	if err != nil || len(list) != maxIssued {
		t.Fatalf("%d serials, %v", len(list), err)
	}
	cert, err := x509.ParseCertificate(last.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := list[maxIssued-1].Serial; got != cert.SerialNumber.Text(16) {
		t.Errorf("recorded %s, issued %s", got, cert.SerialNumber.Text(16))
	}
	_, err = w.r.Renew(t.Context(), who, []byte("no request"))
	wantCode(t, err, wire.CodeBadRequest)
}

func TestNodeHello(t *testing.T) {
	hello := func(generation uint64, fingerprint string) *wire.Hello {
		return &wire.Hello{Generation: generation, Fingerprint: fingerprint, Version: "1"}
	}
	tests := map[string]struct {
		hellos []*wire.Hello
		code   string // of the last; empty: none
	}{
		"restart":         {[]*wire.Hello{hello(1, "f"), hello(2, "f"), hello(7, "f")}, ""},
		"same generation": {[]*wire.Hello{hello(1, "f"), hello(1, "f")}, wire.CodeFrozen},
		"goes back":       {[]*wire.Hello{hello(5, "f"), hello(4, "f")}, wire.CodeFrozen},
		"zero":            {[]*wire.Hello{hello(0, "f")}, wire.CodeFrozen},
		"second host":     {[]*wire.Hello{hello(1, "f"), hello(2, "g")}, wire.CodeFrozen},
		"stays frozen":    {[]*wire.Hello{hello(1, "f"), hello(1, "f"), hello(2, "f")}, wire.CodeFrozen},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			out, err := w.r.Enroll(t.Context(), w.request(w.token(ca.KindNode, 1), ca.KindNode))
			if err != nil {
				t.Fatal(err)
			}
			wantCode(t, w.r.CheckNode(t.Context(), out.ID, 0), wire.CodeStale)
			var generation uint64
			for _, h := range tt.hellos {
				err = w.r.NodeHello(t.Context(), out.ID, h)
				generation = h.Generation
			}
			if tt.code != "" {
				wantCode(t, err, tt.code)
				wantCode(t, w.r.CheckNode(t.Context(), out.ID, generation), tt.code)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := w.r.CheckNode(t.Context(), out.ID, generation); err != nil {
				t.Error(err)
			}
			wantCode(t, w.r.CheckNode(t.Context(), out.ID, generation-1), wire.CodeStale)
		})
	}
}

func TestSecretsAreNotStored(t *testing.T) {
	w := newWorld(t)
	enrol := w.token(ca.KindAgent, 1)
	err := w.db.View(t.Context(), func(tx store.Reader) error {
		return tx.Scan(tableEnrol, nil, nil, func(_, v []byte) error {
			if strings.Contains(string(v), enrol.Secret) {
				t.Errorf("%s holds a secret", tableEnrol)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
