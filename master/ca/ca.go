// Package ca is the master's certificate authority. Agents and nodes trust it by the hash of its key, which enrolment tokens
// carry; it signs what the master decides and takes nothing from a certificate request but the public key.
//
// The key is in one file of the data directory, readable by its owner only. A CA may be used by any number of
// goroutines.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
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
	rootValid   = 10 * 365 * 24 * time.Hour
	backdate    = 5 * time.Minute // for clocks that lag
	// Certificates that others judge by clocks of their own reach back further: a host that is off by a day must still find its master.
	farBackdate = 48 * time.Hour
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
		NotBefore: now.Add(-farBackdate), NotAfter: now.Add(rootValid),
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
func (c *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}
