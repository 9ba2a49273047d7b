package enrol

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// renewCheck is how often the certificate's age is looked at. A clock that jumps is noticed within it.
const renewCheck = time.Minute

// Renewals renews the certificate at two thirds of its life. It returns when ctx ends (nil), or when the master refuses for good.
func (m *Member) Renewals(ctx context.Context) error {
	b := NewBackoff(renewCheck/4, 10*renewCheck)
	for {
		wait := renewCheck
		if leaf := m.Certificate().Leaf; Due(leaf, m.o.Clock.Now()) {
			err := m.Renew(ctx)
			switch {
			case err == nil:
				b.Reset()
			case ctx.Err() != nil:
				return nil
			case Final(err):
				return err
			default:
				wait = b.Step()
				m.o.Log.Warn("the certificate could not be renewed", "error", err, "expires", leaf.NotAfter)
				m.o.Waiting(Renewing, err)
			}
		}
		if m.o.sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// Due reports whether two thirds of a certificate's life have passed.
func Due(leaf *x509.Certificate, now time.Time) bool {
	return now.After(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3))
}

// Renew gets a certificate for a new key. Both are durable before they are used; until then the old ones are good. Errors to
// test for: Final, wire.Passing.
func (m *Member) Renew(ctx context.Context) error {
	m.renewal.Lock()
	defer m.renewal.Unlock()
	if err := m.renew(ctx); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	m.o.Log.Info("certificate renewed", "expires", m.Certificate().Leaf.NotAfter)
	return nil
}

func (m *Member) renew(ctx context.Context) error {
	leaf := m.Certificate().Leaf
	hash := sha256.Sum256(leaf.Raw)
	keys, err := keysFor(m.o.Dir, renewing, hex.EncodeToString(hash[:]), false)
	if err != nil {
		return err
	}
	csr, err := request(keys.Key)
	if err != nil {
		return err
	}
	path, other := wire.PathAgentRenew, wire.PathRenewExpired
	if m.o.Kind == Node {
		path = wire.PathNodeRenew
	}
	if m.o.Clock.Now().After(leaf.NotAfter) {
		path, other = other, path
	}
	out, err := m.client.Renew(ctx, path, &wire.RenewRequest{CSR: csr})
	if wire.HasCode(err, wire.CodeUnauthorized) || wire.HasCode(err, wire.CodeForbidden) { // our clock and the master's may differ
		out, err = m.client.Renew(ctx, other, &wire.RenewRequest{CSR: csr})
	}
	if err != nil {
		return err
	}
	next := *m.Identity()
	next.Key, next.Certificate = keys.Key, out.Certificate
	if _, err := certificate(m.o.Kind, &next); err != nil {
		return err
	}
	if err := m.o.Dir.SetIdentity(&next); err != nil {
		return err
	}
	if err := m.set(&next); err != nil {
		return err
	}
	m.client.Close() // connections that are open show the old one
	return forget(m.o.Dir, renewing)
}
