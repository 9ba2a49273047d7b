package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"crypto/tls"

	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/wire"
)

// authority is a master's CA behind a listener that enrols and renews, and loses the first lose answers.
type authority struct {
	t      *testing.T
	ca     *x509.Certificate
	key    *ecdsa.PrivateKey
	server *httptest.Server
	keys   [][]byte // public keys that were signed
	paths  []string
	lose   int
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: noon.AddDate(-1, 0, 0),
		NotAfter: noon.AddDate(50, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter}
	cert, err := x509.CreateCertificate(rand.Reader, leaf, a.ca, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.server = httptest.NewUnstartedServer(a)
	a.server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert, der}, PrivateKey: k}}, ClientAuth: tls.RequestClientCert}
	a.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	a.server.StartTLS()
	t.Cleanup(a.server.Close)
	return a
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.paths = append(a.paths, r.URL.Path)
	var q struct {
		CSR []byte `json:"csr"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		a.t.Error(err)
	}
	csr, err := x509.ParseCertificateRequest(q.CSR)
	if err != nil {
		a.t.Error(err)
		return
	}
	a.keys = append(a.keys, csr.RawSubjectPublicKeyInfo)
	if a.lose > 0 {
		a.lose--
		panic(http.ErrAbortHandler)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(3), NotBefore: noon, NotAfter: noon.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.ca, csr.PublicKey, a.key)
	if err != nil {
		a.t.Error(err)
	}
	out := wire.EnrollResponse{ID: "m1", Name: "web1", Project: "p", Certificate: [][]byte{der}, CA: a.ca.Raw}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		a.t.Error(err)
	}
}

func (a *authority) agent(dir *state.Dir, now time.Time) *agent {
	_, port, _ := splitURL(a.server.URL)
	token := wire.EnrolToken{URL: "https://localhost:" + port, ID: "0123456789abcdef", Secret: "0123456789abcdef0123456789abcdef", Pin: wire.Pin(a.ca)}
	x := &agent{opts: Options{Token: token.Text()}, log: slog.New(slog.NewTextHandler(io.Discard, nil)), clock: clock.NewFake(now), dir: dir}
	x.status = newStatusFile(dir, x.clock)
	return x
}

func splitURL(u string) (host, port string, ok bool) {
	i := len(u) - 1
	for i > 0 && u[i] != ':' {
		i--
	}
	return u[:i], u[i+1:], i > 0
}

func openDir(t *testing.T) *state.Dir {
	t.Helper()
	d, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestEnrol: an answer that is lost is asked for again with the same keys, and the identity survives a restart without a token.
func TestEnrol(t *testing.T) {
	m, dir := newAuthority(t), openDir(t)
	m.lose = 1
	a := m.agent(dir, noon)
	if err := a.identify(t.Context(), &wire.Inventory{}); err != nil {
		t.Fatal(err)
	}
	a.client.Close()
	if len(m.keys) != 2 || !slices.Equal(m.keys[0], m.keys[1]) {
		t.Errorf("%d requests, with the same key: want 2", len(m.keys))
	}
	again := m.agent(dir, noon)
	again.opts.Token = ""
	if err := again.identify(t.Context(), &wire.Inventory{}); err != nil || again.id.get().ID != "m1" || len(m.keys) != 2 {
		t.Errorf("after a restart: %v, %d requests", err, len(m.keys))
	}
	again.client.Close()
}

func TestEnrolTrustsThePinAlone(t *testing.T) {
	m, other, dir := newAuthority(t), newAuthority(t), openDir(t)
	a := m.agent(dir, noon)
	wrong := m.agent(dir, noon)
	m.ca, other.ca = other.ca, m.ca // tokens carry the other's fingerprint
	wrong.opts.Token = m.agent(dir, noon).opts.Token
	m.ca, other.ca = other.ca, m.ca
	if err := wrong.identify(t.Context(), &wire.Inventory{}); !errors.Is(err, wire.ErrUntrusted) {
		t.Errorf("a master with another CA: %v", err)
	}
	a.opts.Token = ""
	if err := a.identify(t.Context(), &wire.Inventory{}); err == nil {
		t.Error("enrolled without a token")
	}
	if len(m.paths) != 0 {
		t.Errorf("the secret was sent: %v", m.paths)
	}
}

func TestRenew(t *testing.T) {
	for name, c := range map[string]struct {
		age  time.Duration
		due  bool
		path string
	}{
		"young":   {time.Hour, false, wire.PathAgentRenew},
		"old":     {17 * time.Hour, true, wire.PathAgentRenew},
		"expired": {25 * time.Hour, true, wire.PathRenewExpired},
	} {
		t.Run(name, func(t *testing.T) {
			m, dir := newAuthority(t), openDir(t)
			a := m.agent(dir, noon.Add(c.age))
			if err := a.identify(t.Context(), &wire.Inventory{}); err != nil {
				t.Fatal(err)
			}
			defer a.client.Close()
			if due := renewDue(a.id.certificate().Leaf, a.clock.Now()); due != c.due {
				t.Errorf("due: %v", due)
			}
			if err := a.renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := m.paths[len(m.paths)-1]; got != c.path {
				t.Errorf("renewed at %s, want %s", got, c.path)
			}
			if slices.Equal(m.keys[0], m.keys[1]) {
				t.Error("the renewed certificate has the old key")
			}
			stored, err := dir.Identity()
			if err != nil || !slices.Equal(stored.Certificate[0], a.id.certificate().Certificate[0]) {
				t.Errorf("what is used is not what was kept: %v", err)
			}
		})
	}
}
