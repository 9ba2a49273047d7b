package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, dir string) (*CA, *clock.Fake) {
	t.Helper()
	clk := clock.NewFake(start)
	c, err := Open(dir, clk)
	if err != nil {
		t.Fatal(err)
	}
	return c, clk
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func request(t testing.TB, key crypto.Signer, r *x509.CertificateRequest) []byte {
	t.Helper()
	return must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, r, key))
}

func ecKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(c, rand.Reader))
}

// leaf signs a fresh key for who.
func leaf(t testing.TB, c *CA, who Identity) *x509.Certificate {
	t.Helper()
	chain, _, err := c.Sign(request(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{}), who)
	if err != nil {
		t.Fatal(err)
	}
	return must[*x509.Certificate](t)(x509.ParseCertificate(chain[0]))
}

func TestOpenKeepsTheKey(t *testing.T) {
	dir := t.TempDir()
	a, _ := open(t, dir)
	b, _ := open(t, dir)
	if !bytes.Equal(a.Certificate().Raw, b.Certificate().Raw) {
		t.Error("a second start made another CA")
	}
	info, err := os.Stat(filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %v", info.Mode())
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, nil); err == nil {
		t.Error("a damaged key was taken, or replaced")
	}
}

func TestSignTakesOnlyTheKey(t *testing.T) {
	c, _ := open(t, t.TempDir())
	key := ecKey(t, elliptic.P256())
	forged := request(t, key, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "node boss", Organization: []string{"admins"}},
		DNSNames: []string{"master.example"},
		URIs:     []*url.URL{{Scheme: "spiffe", Host: "openmigrate", Path: "/default/node/boss"}},
	})
	who := Identity{Kind: KindAgent, Project: "default", ID: "m1"}
	chain, serial, err := c.Sign(forged, who)
	if err != nil {
		t.Fatal(err)
	}
	cert := must[*x509.Certificate](t)(x509.ParseCertificate(chain[0]))
	if len(cert.DNSNames) != 0 || len(cert.URIs) != 1 || cert.URIs[0].String() != "spiffe://openmigrate/default/agent/m1" || cert.Subject.CommonName != "agent m1" {
		t.Errorf("names of the request got in: %v %v %v", cert.Subject, cert.DNSNames, cert.URIs)
	}
	if !cert.PublicKey.(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Error("the certificate is for another key")
	}
	if cert.IsCA || cert.NotAfter.Sub(start) != LeafValid {
		t.Errorf("IsCA %v, valid until %v", cert.IsCA, cert.NotAfter)
	}
	got := must[Identity](t)(c.Identify(cert, false))
	who.Serial = serial
	if got != who {
		t.Errorf("identified as %+v, want %+v", got, who)
	}
}

func TestCheckRequestRefuses(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	good := request(t, ed, &x509.CertificateRequest{})
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	tests := map[string]struct {
		csr []byte
		ok  bool
	}{
		"ed25519":         {good, true},
		"p256":            {request(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{}), true},
		"p384":            {request(t, ecKey(t, elliptic.P384()), &x509.CertificateRequest{}), false},
		"rsa":             {request(t, must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048)), &x509.CertificateRequest{}), false},
		"wrong signature": {flipped, false},
		"cut":             {good[:len(good)/2], false},
		"empty":           {nil, false},
		"too long":        {make([]byte, maxRequest+1), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := CheckRequest(tt.csr)
			if tt.ok != (err == nil) || err != nil && !errors.Is(err, ErrRequest) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestIdentifyInTime(t *testing.T) {
	tests := map[string]struct {
		at            time.Duration
		good, renewal bool
	}{
		"fresh":                  {0, true, true},
		"last moment":            {LeafValid, true, true},
		"expired":                {LeafValid + time.Second, false, true},
		"end of grace":           {LeafValid + GraceValid, false, true},
		"after grace":            {LeafValid + GraceValid + time.Second, false, false},
		"clock back by a day":    {-24 * time.Hour, false, true},
		"clock back by a decade": {-10 * 365 * 24 * time.Hour, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, clk := open(t, t.TempDir())
			cert := leaf(t, c, Identity{Kind: KindNode, Project: "p", ID: "n"})
			clk.Advance(tt.at)
			if _, err := c.Identify(cert, false); (err == nil) != tt.good || err != nil && !errors.Is(err, ErrCertificate) {
				t.Errorf("on every path: %v", err)
			}
			if _, err := c.Identify(cert, true); (err == nil) != tt.renewal {
				t.Errorf("on the renewal path: %v", err)
			}
		})
	}
}

func TestIdentifyRefusesStrangers(t *testing.T) {
	c, _ := open(t, t.TempDir())
	other, _ := open(t, t.TempDir())
	server := must[*tls.Certificate](t)(c.Server("localhost"))
	for name, cert := range map[string]*x509.Certificate{
		"another CA's":   leaf(t, other, Identity{Kind: KindAgent, Project: "p", ID: "a"}),
		"the CA itself":  c.Certificate(),
		"a server's":     server.Leaf,
		"an odd kind":    leaf(t, c, Identity{Kind: "king", Project: "p", ID: "a"}),
		"a path in path": leaf(t, c, Identity{Kind: KindAgent, Project: "p", ID: "a/../b"}),
	} {
		for _, expired := range []bool{false, true} {
			if who, err := c.Identify(cert, expired); !errors.Is(err, ErrCertificate) {
				t.Errorf("%s (expired %v) was taken for %+v, %v", name, expired, who, err)
			}
		}
	}
}

func TestServerCertificate(t *testing.T) {
	c, clk := open(t, t.TempDir())
	verify := func(cert *tls.Certificate, name string) error {
		roots := x509.NewCertPool()
		roots.AddCert(c.Certificate())
		_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: clk.Now()})
		return err
	}
	get := func() *tls.Certificate {
		t.Helper()
		return must[*tls.Certificate](t)(c.Server("localhost", "127.0.0.1", "::1"))
	}
	first := get()
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := verify(first, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if verify(first, "example.com") == nil {
		t.Error("good for a name that it was not made for")
	}
	if get() != first {
		t.Error("a new certificate at each handshake")
	}
	clk.Advance(serverValid * 3 / 4)
	second := get()
	if second == first {
		t.Error("not renewed with a quarter of its time left")
	}
	clk.Advance(serverValid / 3)
	if err := verify(second, "localhost"); err != nil {
		t.Errorf("renewed: %v", err)
	}
}

func TestWriteServer(t *testing.T) {
	c, _ := open(t, t.TempDir())
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := c.WriteServer(certFile, keyFile, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	pair := must[tls.Certificate](t)(tls.LoadX509KeyPair(certFile, keyFile))
	if err := pair.Leaf.CheckSignatureFrom(c.Certificate()); err != nil {
		t.Error(err)
	}
	if info := must[os.FileInfo](t)(os.Stat(keyFile)); info.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %v", info.Mode())
	}
}

func FuzzCheckRequest(f *testing.F) {
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request(f, ed, &x509.CertificateRequest{}))
	f.Add(request(f, ecKey(f, elliptic.P256()), &x509.CertificateRequest{DNSNames: []string{"a"}}))
	f.Fuzz(func(t *testing.T, csr []byte) {
		if key, err := CheckRequest(csr); (err == nil) == (key == nil) {
			t.Errorf("key %v and error %v", key, err)
		}
	})
}
