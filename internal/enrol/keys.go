package enrol

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/internal/statedir"
	"github.com/openmigrate/openmigrate/wire"
)

// certificate checks that an identity of this kind is whole: its certificate is for its key and from its CA.
func certificate(kind string, id *statedir.Identity) (*tls.Certificate, error) {
	if len(id.Certificate) == 0 || id.ID == "" || kind == Agent && len(id.SigningKey) != ed25519.SeedSize {
		return nil, errors.New("read identity: it is not complete")
	}
	key, err := signer(id.Key)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	ca, err := x509.ParseCertificate(id.CA)
	if err != nil {
		return nil, fmt.Errorf("read identity: the master's CA: %w", err)
	}
	leaf, err := x509.ParseCertificate(id.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	want, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if !bytes.Equal(want, leaf.RawSubjectPublicKeyInfo) {
		return nil, errors.New("read identity: the certificate is for another key")
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		return nil, fmt.Errorf("read identity: the certificate is not from its master: %w: %w", wire.ErrUntrusted, err)
	}
	return &tls.Certificate{Certificate: id.Certificate, PrivateKey: key, Leaf: leaf}, nil
}

// signer reads a PKCS #8 key. Its errors say nothing of the key.
func signer(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the key cannot be read")
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key cannot sign")
	}
	return s, nil
}

// newKey makes a certificate's key, as PKCS #8.
func newKey() ([]byte, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return der, nil
}

// request asks for a certificate for a key. The master sets every name.
func request(key []byte) ([]byte, error) {
	k, err := signer(key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return csr, nil
}

// pending is a file of keys whose certificate was asked for and is not here yet. An empty one stands for none.
type pending struct {
	For        string `json:"for,omitempty"` // what it was asked with: a token's id, or the hash of a certificate; no secrets
	Key        []byte `json:"key,omitempty"`
	SigningKey []byte `json:"signing_key,omitempty"` // Ed25519 seed
}

// Files of keys that are under way.
const (
	enrolling = "enrolling.json"
	renewing  = "renewing.json"
)

// keysFor makes new keys durable in a file, or finds those of an earlier try for the same.
func keysFor(dir Dir, file, what string, signing bool) (*pending, error) {
	p := &pending{}
	if ok, err := dir.Read(file, p); err == nil && ok && p.For == what && signing == (len(p.SigningKey) == ed25519.SeedSize) {
		if _, err := signer(p.Key); err == nil {
			return p, nil
		}
	}
	p = &pending{For: what}
	var err error
	if p.Key, err = newKey(); err != nil {
		return nil, err
	}
	if signing {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make signing key: %w", err)
		}
		p.SigningKey = k.Seed()
	}
	return p, dir.Write(file, p)
}

// forget empties a file of keys, once the identity has them.
func forget(dir Dir, file string) error {
	var p pending
	if ok, err := dir.Read(file, &p); err == nil && (!ok || p.For == "") {
		return nil
	}
	return dir.Write(file, &pending{})
}
