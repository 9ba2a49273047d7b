package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"strings"
)

// maxRequest bounds a certificate request, in bytes.
const maxRequest = 16 << 10

// CheckRequest reads a certificate request (DER) and returns its public key: ECDSA P-256 or Ed25519. ErrRequest.
func CheckRequest(csr []byte) (crypto.PublicKey, error) {
	if len(csr) > maxRequest {
		return nil, fmt.Errorf("%w: %d bytes", ErrRequest, len(csr))
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	switch k := req.PublicKey.(type) { // before the signature: keys of other kinds can be made slow to check
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("%w: curve %s; want P-256", ErrRequest, k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("%w: key of type %T; want ECDSA P-256 or Ed25519", ErrRequest, k)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return req.PublicKey, nil
}

// Sign makes a leaf for who, over the public key of a certificate request (DER). All names come from who.
func (c *CA) Sign(csr []byte, who Identity) (chain [][]byte, serialText string, err error) {
	public, err := CheckRequest(csr)
	if err != nil {
		return nil, "", err
	}
	now := c.clock.Now()
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: who.Kind + " " + who.ID},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(LeafValid), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{{Scheme: "spiffe", Host: "openmigrate", Path: "/" + who.Project + "/" + who.Kind + "/" + who.ID}},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.cert, public, c.key)
	if err != nil {
		return nil, "", fmt.Errorf("sign certificate: %w", err)
	}
	return [][]byte{der}, t.SerialNumber.Text(16), nil
}

// Identify verifies a client's certificate and says whom it speaks for. With expired, one that ran out at most GraceValid
// ago is taken, too, and one that begins so far in the future: the master's clock was put back. ErrCertificate.
func (c *CA) Identify(cert *x509.Certificate, expired bool) (Identity, error) {
	at := c.clock.Now()
	switch {
	case !expired:
	case at.After(cert.NotAfter) && !at.After(cert.NotAfter.Add(GraceValid)):
		at = cert.NotAfter
	case at.Before(cert.NotBefore) && !at.Before(cert.NotBefore.Add(-GraceValid)):
		at = cert.NotBefore
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
