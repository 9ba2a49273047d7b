// Package enrol makes agents and nodes members of a project and keeps them so: it trades a one-time token for an identity,
// makes the client that speaks for it, and renews its certificate with a new key at two thirds of its life.
//
// Invariants. The master is trusted by the CA's fingerprint in the token, from the first byte. Keys are made here and never leave.
// They are durable before the master hears of them, and the master gives the same identity again to whoever shows the same
// keys and token, so an answer that is lost, also by a crash, costs nothing. A renewed certificate is durable before it is used.
// A Member may be used by any number of goroutines.
package enrol

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
	"log/slog"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/statedir"
	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/wire"
)

// Kinds of members.
const (
	Agent = "agent"
	Node  = "node"
)

// Options say who joins. Dir and Kind are needed; Token at the first start.
type Options struct {
	Dir         *statedir.Dir
	Kind        string
	MasterURL   string // empty: the one in the token, or of the identity
	Token       string // not looked at once there is an identity
	Name        string // wished
	Fingerprint string // of the host
	Inventory   *wire.Inventory
	Log         *slog.Logger
	Waiting     func(error) // is told why joining takes long; may be nil
}

// Member is an identity that is in use.
type Member struct {
	dir    *statedir.Dir
	log    *slog.Logger
	kind   string
	url    string
	client *wire.Client

	mu   sync.Mutex
	id   *statedir.Identity // guarded by mu; replaced, never changed
	cert *tls.Certificate   // of id; guarded by mu
}

// Join finds the identity in the directory, or enrols. It waits for a master that cannot be reached yet. Errors to test for:
// wire.ErrUntrusted, and the master's CodeTokenUsed, CodeTokenExpired, CodeUnauthorized.
func Join(ctx context.Context, o Options) (*Member, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	id, err := o.Dir.Identity()
	if err != nil {
		return nil, err
	}
	if id == nil {
		if id, err = enrol(ctx, &o); err != nil {
			return nil, err
		}
	}
	m := &Member{dir: o.Dir, log: o.Log, kind: o.Kind, url: id.Master}
	if o.MasterURL != "" {
		m.url = o.MasterURL
	}
	if err := m.set(id); err != nil {
		return nil, err
	}
	m.client, err = wire.NewClient(wire.ClientOptions{URL: m.url, CA: id.CA, Certificate: m.Certificate, Generation: o.Dir.Generation, UserAgent: userAgent(o.Kind)})
	return m, err
}

func userAgent(kind string) string { return "openmigrate-" + kind + "/" + version.String() }

// Client speaks to the master as this member.
func (m *Member) Client() *wire.Client { return m.client }

// URL is where the master is.
func (m *Member) URL() string { return m.url }

// Identity is who the member is now. It is not to be changed.
func (m *Member) Identity() *statedir.Identity {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id
}

// Certificate is the member's present one.
func (m *Member) Certificate() *tls.Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cert
}

func (m *Member) set(id *statedir.Identity) error {
	cert, err := certificate(id)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id, m.cert = id, cert
	return nil
}

// certificate checks that an identity's certificate is for its key.
func certificate(id *statedir.Identity) (*tls.Certificate, error) {
	key, err := x509.ParsePKCS8PrivateKey(id.Key)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok || len(id.Certificate) == 0 {
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

// underWay is the file of an enrolment under way.
const underWay = "enrolling.json"

func enrol(ctx context.Context, o *Options) (*statedir.Identity, error) {
	if o.Token == "" {
		return nil, fmt.Errorf("this %s has no identity yet: give it an enrolment token with --token (make one with 'openmigrate tokens enroll --kind %s')", o.Kind, o.Kind)
	}
	token, err := wire.ParseEnrolToken(o.Token)
	if err != nil {
		return nil, err
	}
	id, csr, err := keysFor(o.Dir, token)
	if err != nil {
		return nil, err
	}
	id.Master = token.URL
	if o.MasterURL != "" {
		id.Master = o.MasterURL
	}
	q := &wire.EnrollRequest{Kind: o.Kind, TokenID: token.ID, Secret: token.Secret, CSR: csr, Name: o.Name, Fingerprint: o.Fingerprint,
		Version: version.String(), Inventory: o.Inventory}
	if o.Kind == Agent {
		signing := ed25519.NewKeyFromSeed(id.SigningKey)
		q.SigningKey, q.SigningSig = signing.Public().(ed25519.PublicKey), ed25519.Sign(signing, csr)
	}
	out, err := ask(ctx, o, id.Master, token, q)
	if err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
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
	if err := o.Dir.SetIdentity(id); err != nil {
		return nil, err
	}
	o.Log.Info("enrolled", "kind", o.Kind, "name", id.Name, "id", id.ID, "project", id.Project)
	return id, nil
}

// ask sends the request until the master answers.
func ask(ctx context.Context, o *Options, url string, token *wire.EnrolToken, q *wire.EnrollRequest) (*wire.EnrollResponse, error) {
	client, err := wire.NewClient(wire.ClientOptions{URL: url, Pin: &token.Pin, UserAgent: userAgent(o.Kind)})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		out, err := client.Enroll(ctx, q)
		if err == nil || !wire.Passing(err) {
			return out, err
		}
		o.Log.Warn("the master cannot be reached yet", "error", err)
		if o.Waiting != nil {
			o.Waiting(err)
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// keysFor makes an enrolment's keys durable, or finds those of an earlier try with the same token.
func keysFor(dir *statedir.Dir, token *wire.EnrolToken) (*statedir.Identity, []byte, error) {
	var pending struct {
		Token    string            `json:"token"` // its id, which is no secret
		Identity statedir.Identity `json:"identity"`
	}
	ok, err := dir.Read(underWay, &pending)
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
	pending.Token, pending.Identity = token.ID, statedir.Identity{Key: key, SigningKey: signing.Seed()}
	return &pending.Identity, csr, dir.Write(underWay, &pending)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
