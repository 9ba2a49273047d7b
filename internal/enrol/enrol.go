// Package enrol makes agents and nodes members of a project and keeps them so: it trades a one-time token for an identity,
// makes the client that speaks for it, and renews its certificate with a new key at two thirds of its life.
//
//	token ─► keys ─► [enrolling.json] ─► master ─► [identity.json] ─► forget the first file ─► Member
//	two thirds over, or expired: key ─► [renewing.json] ─► master ─► [identity.json] ─► forget ─► used from the next connection on
//
// Invariants. The master is trusted by the CA's fingerprint in the token, from the first byte, and each certificate is checked
// against that CA. Keys are made here and never leave; they, and the token's secret, are in no log and no error. Keys are durable
// before the master hears of them, and the master gives the same identity again to whoever shows the same keys and token, so an
// answer that is lost, also by a power cut, costs nothing. An identity is durable before it is used.
//
// A Member may be used by any number of goroutines.
package enrol

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/internal/statedir"
	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/wire"
)

// Kinds of members.
const (
	Agent = "agent"
	Node  = "node"
)

// Dir is what a member keeps its identity in. Each write is durable when it returns, and leaves the old content or the new.
// *statedir.Dir is one.
type Dir interface {
	Identity() (*statedir.Identity, error)
	SetIdentity(id *statedir.Identity) error
	Read(name string, v any) (bool, error)
	Write(name string, v any) error
	Generation() uint64
}

// What a member can be waiting for.
const (
	Enrolling = "enrolling"
	Renewing  = "renewing"
)

// Options say who joins. Dir and Kind are needed; Token at the first start.
type Options struct {
	Dir         Dir
	Kind        string
	MasterURL   string // empty: the one in the token, or of the identity
	Token       string // not looked at once there is an identity
	Name        string // wished
	Fingerprint string // of the host
	Inventory   *wire.Inventory
	Log         *slog.Logger                  // nil: slog.Default
	Clock       clock.Clock                   // nil: the system's
	Waiting     func(doing string, err error) // is told of each try that failed and will be repeated; may be nil

	sleep func(context.Context, time.Duration) error // of tests; nil: by the system's clock
}

// Member is an identity that is in use.
type Member struct {
	o      Options
	url    string
	client *wire.Client

	renewal sync.Mutex // held while a certificate is renewed

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
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Waiting == nil {
		o.Waiting = func(string, error) {}
	}
	if o.sleep == nil {
		o.sleep = sleep
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
	// An earlier process may have ended between the identity and this.
	if err := forget(o.Dir, enrolling); err != nil {
		return nil, err
	}
	m := &Member{o: o, url: id.Master}
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
	cert, err := certificate(m.o.Kind, id)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id, m.cert = id, cert
	return nil
}

// Final reports whether an error cannot mend itself: the member ends with it, and the operator has to act.
func Final(err error) bool {
	for _, code := range []string{wire.CodeRevoked, wire.CodeTokenUsed, wire.CodeTokenExpired, wire.CodeNewerVersion} {
		if wire.HasCode(err, code) {
			return true
		}
	}
	return false
}
