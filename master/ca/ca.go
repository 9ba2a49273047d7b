// Package ca is the master's certificate authority. Agents and nodes trust it by the hash of its key, which enrolment tokens
// carry; it signs what the master decides and takes nothing from a certificate request but the public key.
//
// The key is in one file of the data directory, readable by its owner only. A CA may be used by any number of
// goroutines.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/internal/durable"
)

// How long certificates are good for. Leaves of agents and nodes are renewed at two thirds.
const (
	LeafValid   = 24 * time.Hour
	GraceValid  = 30 * 24 * time.Hour // after that, an expired leaf cannot be renewed any more
	serverValid = 30 * 24 * time.Hour
	rootValid   = 20 * 365 * 24 * time.Hour
	backdate    = 5 * time.Minute // for clocks that lag
)

// Kinds of identities.
const (
	KindAgent = "agent"
	KindNode  = "node"
)

var (
	// ErrRequest: a certificate request is damaged, not signed by its own key, or has a key of a kind that is not taken.
	ErrRequest = errors.New("certificate request is not acceptable")
	// ErrCertificate: a certificate is not one of this CA's, or not good now.
	ErrCertificate = errors.New("certificate is not valid")
)

// Identity is who a certificate speaks for.
type Identity struct {
	Kind    string // KindAgent or KindNode
	Project string
	ID      string
	Serial  string // of the certificate, hexadecimal
}

// CA signs certificates.
type CA struct {
	clock clock.Clock
	key   crypto.Signer
	cert  *x509.Certificate

	mu      sync.Mutex
	servers map[string]*tls.Certificate // by joined names; guarded by mu
}

// Open reads the CA in dir, or makes it.
func Open(dir string, clk clock.Clock) (*CA, error) {
	if clk == nil {
		clk = clock.Real{}
	}
	c := &CA{clock: clk, servers: map[string]*tls.Certificate{}}
	keyFile, certFile := filepath.Join(dir, "ca.key"), filepath.Join(dir, "ca.pem")
	if _, err := os.Stat(keyFile); errors.Is(err, os.ErrNotExist) {
		if err := create(keyFile, certFile, clk.Now()); err != nil {
			return nil, fmt.Errorf("make CA: %w", err)
		}
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	c.key = pair.PrivateKey.(crypto.Signer)
	c.cert = pair.Leaf
	return c, nil
}

// create writes the certificate first: a key without one would be taken for a whole CA.
func create(keyFile, certFile string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "OpenMigrate CA"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(rootValid),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return durable.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // the system's random source never fails
	}
	return n.Add(n, big.NewInt(1))
}

// Certificate is the CA's own.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// PEM is the CA's own certificate as text.
func (c *CA) PEM() []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw}) }

// Sign makes a leaf for who, over the public key of a certificate request (DER). All names come from who.
func (c *CA) Sign(csr []byte, who Identity) (chain [][]byte, serialText string, err error) {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrRequest, err)
	}
	switch k := req.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, "", fmt.Errorf("%w: curve %s", ErrRequest, k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return nil, "", fmt.Errorf("%w: key of type %T; want ECDSA P-256, P-384 or Ed25519", ErrRequest, k)
	}
	now := c.clock.Now()
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: who.Kind + " " + who.ID},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(LeafValid), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{{Scheme: "spiffe", Host: "openmigrate", Path: "/" + who.Project + "/" + who.Kind + "/" + who.ID}},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.cert, req.PublicKey, c.key)
	if err != nil {
		return nil, "", fmt.Errorf("sign certificate: %w", err)
	}
	return [][]byte{der}, t.SerialNumber.Text(16), nil
}

// Identify verifies a client's certificate and says whom it speaks for. With expired, one that ran out at most GraceValid
// ago is taken, too. ErrCertificate.
func (c *CA) Identify(cert *x509.Certificate, expired bool) (Identity, error) {
	at := c.clock.Now()
	if expired && at.After(cert.NotAfter) && at.Before(cert.NotAfter.Add(GraceValid)) {
		at = cert.NotAfter
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.cert)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "spiffe" || cert.URIs[0].Host != "openmigrate" {
		return Identity{}, fmt.Errorf("%w: it names nobody", ErrCertificate)
	}
	f := strings.Split(strings.TrimPrefix(cert.URIs[0].Path, "/"), "/")
	if len(f) != 3 || f[1] != KindAgent && f[1] != KindNode {
		return Identity{}, fmt.Errorf("%w: it names %s", ErrCertificate, cert.URIs[0])
	}
	return Identity{Project: f[0], Kind: f[1], ID: f[2], Serial: cert.SerialNumber.Text(16)}, nil
}

// Server returns the certificate of a server that is reached by names (host names and addresses), and makes a new one when a third
// of its time is left. It is what tls.Config.GetCertificate calls.
func (c *CA) Server(names ...string) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := strings.Join(names, "\x00")
	if have := c.servers[key]; have != nil && c.clock.Now().Before(have.Leaf.NotAfter.Add(-serverValid/3)) && !c.clock.Now().Before(have.Leaf.NotBefore) {
		return have, nil
	}
	cert, err := c.newServer(names)
	if err != nil {
		return nil, fmt.Errorf("make server certificate: %w", err)
	}
	c.servers[key] = cert
	return cert, nil
}

func (c *CA) newServer(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := c.clock.Now()
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: names[0]}, NotBefore: now.Add(-backdate), NotAfter: now.Add(serverValid),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.cert, key.Public(), c.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, c.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// WriteServer writes a server certificate for names, with its key, for a process that reads files.
func (c *CA) WriteServer(certFile, keyFile string, names ...string) error {
	cert, err := c.newServer(names)
	if err != nil {
		return fmt.Errorf("make server certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("make server certificate: %w", err)
	}
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := durable.WriteFile(certFile, chain, 0o644); err != nil {
		return err
	}
	return durable.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
}
