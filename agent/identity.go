package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/wire"
)

// identity is who the agent is. Any number of goroutines may use it.
type identity struct {
	mu   sync.Mutex
	id   *state.Identity  // guarded by mu; replaced, never changed
	cert *tls.Certificate // of id; guarded by mu
}

func newIdentity(id *state.Identity) (*identity, error) {
	i := &identity{}
	return i, i.set(id)
}

func (i *identity) set(id *state.Identity) error {
	cert, err := certificate(id)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.id, i.cert = id, cert
	return nil
}

func (i *identity) get() *state.Identity {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.id
}

func (i *identity) certificate() *tls.Certificate {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.cert
}

// certificate checks that an identity's certificate is for its key.
func certificate(id *state.Identity) (*tls.Certificate, error) {
	key, err := x509.ParsePKCS8PrivateKey(id.Key)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok || len(id.Certificate) == 0 || len(id.SigningKey) != ed25519.SeedSize {
		return nil, errors.New("read identity: it is not complete")
	}
	leaf, err := x509.ParseCertificate(id.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	want, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if !bytes.Equal(want, leaf.RawSubjectPublicKeyInfo) {
		return nil, errors.New("read identity: the certificate is for another key")
	}
	return &tls.Certificate{Certificate: id.Certificate, PrivateKey: key, Leaf: leaf}, nil
}

// identify finds the agent's identity, or enrols, and makes the client that speaks for it.
func (a *agent) identify(ctx context.Context, inv *wire.Inventory) error {
	stored, err := a.dir.Identity()
	if err != nil {
		return err
	}
	if stored == nil {
		if stored, err = a.enrol(ctx, inv); err != nil {
			return err
		}
	}
	if a.id, err = newIdentity(stored); err != nil {
		return err
	}
	url := stored.Master
	if a.opts.MasterURL != "" {
		url = a.opts.MasterURL
	}
	a.status.identity(stored, url)
	a.client, err = wire.NewClient(wire.ClientOptions{URL: url, CA: stored.CA, Certificate: a.id.certificate,
		Generation: a.dir.Generation, UserAgent: "openmigrate-agent/" + version.String()})
	return err
}

// newKey makes a key and a certificate request for it. The master sets every name.
func newKey() (key, csr []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	if key, err = x509.MarshalPKCS8PrivateKey(k); err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	csr, err = request(k)
	return key, csr, err
}

func request(k crypto.Signer) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return csr, nil
}

// enrolling is the file of an enrolment under way.
const enrolling = "enrolling.json"

// enrol trades the token for an identity. The keys are durable first: the master gives the same identity again to whoever
// shows the same keys and token, so an answer that is lost, also by a crash, costs nothing.
func (a *agent) enrol(ctx context.Context, inv *wire.Inventory) (*state.Identity, error) {
	if a.opts.Token == "" {
		return nil, errors.New("this agent has no identity yet: give it an enrolment token with --token (make one with 'openmigrate tokens enroll')")
	}
	token, err := wire.ParseEnrolToken(a.opts.Token)
	if err != nil {
		return nil, err
	}
	url := token.URL
	if a.opts.MasterURL != "" {
		url = a.opts.MasterURL
	}
	id, csr, err := a.enrolmentKeys(token)
	if err != nil {
		return nil, err
	}
	id.Master = url
	client, err := wire.NewClient(wire.ClientOptions{URL: url, Pin: &token.Pin, UserAgent: "openmigrate-agent/" + version.String()})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	signing := ed25519.NewKeyFromSeed(id.SigningKey)
	q := &wire.EnrollRequest{
		Kind: "agent", TokenID: token.ID, Secret: token.Secret, CSR: csr, SigningKey: signing.Public().(ed25519.PublicKey),
		SigningSig: ed25519.Sign(signing, csr), Name: a.opts.Name, Fingerprint: inv.Fingerprint, Version: version.String(), Inventory: inv,
	}
	if q.Name == "" {
		q.Name = inv.Hostname
	}
	var out *wire.EnrollResponse
	for b := newBackoff(time.Second, 30*time.Second); ; {
		if out, err = client.Enroll(ctx, q); err == nil {
			break
		}
		if !wire.Passing(err) {
			return nil, fmt.Errorf("enrol: %w", err)
		}
		a.log.Warn("the master cannot be reached yet", "error", err)
		a.status.set("enrolling", err)
		if err := b.wait(ctx); err != nil {
			return nil, err
		}
	}
	ca, err := x509.ParseCertificate(out.CA)
	if err != nil {
		return nil, fmt.Errorf("enrol: read the master's CA: %w", err)
	}
	if wire.Pin(ca) != token.Pin {
		return nil, fmt.Errorf("enrol: %w: the CA in the answer is not the token's", wire.ErrUntrusted)
	}
	id.ID, id.Name, id.Project, id.CA, id.MasterKey, id.Certificate = out.ID, out.Name, out.Project, out.CA, out.MasterKey, out.Certificate
	if _, err := certificate(id); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	if err := a.dir.SetIdentity(id); err != nil {
		return nil, err
	}
	a.log.Info("enrolled", "machine", id.Name, "id", id.ID, "project", id.Project)
	return id, nil
}

// enrolmentKeys makes an enrolment's keys durable, or finds those of an earlier try with the same token.
func (a *agent) enrolmentKeys(token *wire.EnrolToken) (*state.Identity, []byte, error) {
	var pending struct {
		Token    string         `json:"token"` // its id, which is no secret
		Identity state.Identity `json:"identity"`
	}
	ok, err := a.dir.Read(enrolling, &pending)
	if err == nil && ok && pending.Token == token.ID && len(pending.Identity.SigningKey) == ed25519.SeedSize {
		if key, err := x509.ParsePKCS8PrivateKey(pending.Identity.Key); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				csr, err := request(signer)
				return &pending.Identity, csr, err
			}
		}
	}
	key, csr, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make signing key: %w", err)
	}
	pending.Token, pending.Identity = token.ID, state.Identity{Key: key, SigningKey: signing.Seed()}
	return &pending.Identity, csr, a.dir.Write(enrolling, &pending)
}
