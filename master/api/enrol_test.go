package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/wire"
)

func TestEnrolAndWork(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []string{ca.KindAgent, ca.KindNode} {
		a := w.enrol(kind, true)
		leaf, err := x509.ParseCertificate(a.cert.Load().Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if len(leaf.DNSNames) != 0 || !strings.HasSuffix(leaf.URIs[0].Path, "/"+kind+"/"+a.id) {
			t.Errorf("%s: names %v %v", kind, leaf.DNSNames, leaf.URIs)
		}
	}
	machines, err := w.admin().Machines(t.Context())
	if err != nil || len(machines) != 1 || machines[0].Name != "host" {
		t.Errorf("machines %+v, %v", machines, err)
	}
	nodes, err := w.admin().Nodes(t.Context())
	if err != nil || len(nodes) != 1 {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
}

func TestEnrolRefuses(t *testing.T) {
	w := newWorld(t)
	tok := w.enrolToken(ca.KindAgent)
	c := w.client(wire.ClientOptions{Pin: &tok.Pin})

	q, _ := enrolRequest(t, tok, ca.KindAgent)
	q.Secret = strings.Repeat("0", 32)
	_, err := c.Enroll(t.Context(), q)
	wantCode(t, "wrong secret", err, wire.CodeUnauthorized)

	q, _ = enrolRequest(t, tok, ca.KindAgent)
	if _, err := c.Enroll(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	q, _ = enrolRequest(t, tok, ca.KindAgent)
	_, err = c.Enroll(t.Context(), q)
	wantCode(t, "used token", err, wire.CodeTokenUsed)
	if p := (*wire.Problem)(nil); errors.As(err, &p) && p.Next == "" {
		t.Error("a used token's error does not say what to do")
	}

	old := w.enrolToken(ca.KindAgent)
	w.env.Clock.Advance(25 * time.Hour)
	q, _ = enrolRequest(t, old, ca.KindAgent)
	_, err = c.Enroll(t.Context(), q)
	wantCode(t, "expired token", err, wire.CodeTokenExpired)
}

func TestOnlyTheRightMasterIsTrusted(t *testing.T) {
	w := newWorld(t)
	tok := w.enrolToken(ca.KindAgent)
	other, err := ca.Open(t.TempDir(), w.env.Clock)
	if err != nil {
		t.Fatal(err)
	}
	wrongPin := wire.Pin(other.Certificate())
	_, port, _ := strings.Cut(strings.TrimPrefix(w.url, "https://"), ":")
	for name, o := range map[string]wire.ClientOptions{
		"pin of another CA":     {Pin: &wrongPin},
		"another CA":            {CA: other.Certificate().Raw},
		"right pin, wrong name": {Pin: &tok.Pin, URL: "https://localhost:" + port},
		"right CA, wrong name":  {URL: "https://localhost:" + port},
	} {
		q, _ := enrolRequest(t, tok, ca.KindAgent)
		_, err := w.client(o).Enroll(t.Context(), q)
		if !errors.Is(err, wire.ErrUntrusted) || errors.Is(err, wire.ErrUnreachable) || wire.Passing(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	q, _ := enrolRequest(t, tok, ca.KindAgent)
	if _, err := w.client(wire.ClientOptions{Pin: &tok.Pin}).Enroll(t.Context(), q); err != nil {
		t.Errorf("the token did not survive: %v", err)
	}
}

func TestRenewWithANewKey(t *testing.T) {
	w := newWorld(t)
	for kind, path := range map[string]string{ca.KindAgent: wire.PathAgentRenew, ca.KindNode: wire.PathNodeRenew} {
		a := w.enrol(kind, true)
		before := a.cert.Load()
		key, csr := newKey(t)
		out, err := a.Renew(t.Context(), path, &wire.RenewRequest{CSR: csr})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(out.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if !key.PublicKey.Equal(leaf.PublicKey) || strings.Contains(string(before.Certificate[0]), string(leaf.RawSubjectPublicKeyInfo)) {
			t.Errorf("%s: the certificate is not for the new key", kind)
		}
		a.cert.Store(&tls.Certificate{Certificate: out.Certificate, PrivateKey: key})
		a.Close()
		if _, err := a.Renew(t.Context(), path, &wire.RenewRequest{CSR: csr}); err != nil {
			t.Errorf("%s: with the new certificate: %v", kind, err)
		}
		_, err = a.Renew(t.Context(), path, &wire.RenewRequest{CSR: []byte("nothing")})
		wantCode(t, "damaged request", err, wire.CodeBadRequest)
	}
}

func TestExpiredCertificates(t *testing.T) {
	w := newWorld(t)
	agent := w.enrol(ca.KindAgent, true)
	_, csr := newKey(t)
	for name, tt := range map[string]struct {
		ago  time.Duration
		code string // on the path of renewal; empty: renewed
	}{
		"an hour ago":       {ca.LeafValid + time.Hour, ""},
		"a month ago":       {ca.LeafValid + ca.GraceValid - time.Hour, ""},
		"more than a month": {ca.LeafValid + ca.GraceValid + time.Hour, wire.CodeUnauthorized},
	} {
		a := w.actor(ca.KindAgent, agent.id, w.signed(ca.KindAgent, agent.id, tt.ago))
		a.generation.Store(1)
		_, err := a.Assignment(t.Context(), 0, 0)
		wantCode(t, name+": assignment", err, wire.CodeUnauthorized)
		_, err = a.Renew(t.Context(), wire.PathAgentRenew, &wire.RenewRequest{CSR: csr})
		wantCode(t, name+": renewal on the path of those that are good", err, wire.CodeUnauthorized)
		switch _, err = a.Renew(t.Context(), wire.PathRenewExpired, &wire.RenewRequest{CSR: csr}); {
		case tt.code != "":
			wantCode(t, name, err, tt.code)
		case err != nil:
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.admin().RevokeMachine(t.Context(), agent.id); err != nil {
		t.Fatal(err)
	}
	a := w.actor(ca.KindAgent, agent.id, w.signed(ca.KindAgent, agent.id, ca.LeafValid+time.Hour))
	_, err := a.Renew(t.Context(), wire.PathRenewExpired, &wire.RenewRequest{CSR: csr})
	wantCode(t, "revoked and expired", err, wire.CodeRevoked)
}

func TestRemovedMachineCannotRenew(t *testing.T) {
	w := newWorld(t)
	a := w.enrol(ca.KindAgent, true)
	if err := w.env.Catalog.RemoveMachine(t.Context(), a.id); err != nil { // and the master dies before the deny-list has it
		t.Fatal(err)
	}
	_, csr := newKey(t)
	for _, path := range []string{wire.PathAgentRenew, wire.PathRenewExpired} {
		_, err := a.Renew(t.Context(), path, &wire.RenewRequest{CSR: csr})
		wantCode(t, path, err, wire.CodeRevoked)
	}
}

func TestRevokedDuringALongPoll(t *testing.T) {
	w := newWorld(t)
	a := w.enrol(ca.KindAgent, true)
	bystander := w.enrol(ca.KindAgent, true)
	now, err := a.Assignment(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{})
	told := func(r *http.Request) {
		if r.URL.Path == wire.PathAgentAssignment {
			close(arrived)
		}
	}
	w.arrived.Store(&told)
	answered := make(chan error, 1)
	begin := time.Now()
	go func() {
		_, err := a.Assignment(t.Context(), now.Version, wire.MaxWait)
		answered <- err
	}()
	<-arrived
	w.arrived.Store(nil)
	if err := w.admin().RevokeMachine(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "the poll", <-answered, wire.CodeRevoked)
	if took := time.Since(begin); took > wire.MaxWait/2 {
		t.Errorf("cut off after %v", took)
	}
	wantCode(t, "the next request", a.Report(t.Context(), &wire.Report{}), wire.CodeRevoked)
	if err := bystander.Report(t.Context(), &wire.Report{}); err != nil {
		t.Errorf("bystander: %v", err)
	}
}
