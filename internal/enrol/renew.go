package enrol

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/wire"
)

// renewCheck is how often the certificate's age is looked at. A clock that jumps is noticed within it.
const renewCheck = time.Minute

// Final reports whether an error of the master's ends a member for good.
func Final(err error) bool { return wire.HasCode(err, wire.CodeRevoked) }

// Renewals renews the certificate at two thirds of its life. It returns when ctx ends (nil), or when the master refuses for good.
func (m *Member) Renewals(ctx context.Context, clk clock.Clock) error {
	retry := renewCheck / 4
	for {
		wait := renewCheck
		if leaf := m.Certificate().Leaf; Due(leaf, clk.Now()) {
			err := m.Renew(ctx, clk.Now())
			switch {
			case err == nil:
				retry = renewCheck / 4
			case ctx.Err() != nil:
				return nil
			case Final(err):
				return err
			default:
				wait, retry = retry, min(2*retry, 10*renewCheck)
				m.log.Warn("the certificate could not be renewed", "error", err, "expires", leaf.NotAfter)
			}
		}
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// Due reports whether two thirds of a certificate's life have passed.
func Due(leaf *x509.Certificate, now time.Time) bool {
	return now.After(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3))
}

// Renew gets a certificate for a new key. It is durable before it is used; until then the old one is good.
func (m *Member) Renew(ctx context.Context, now time.Time) error {
	key, csr, err := newKey()
	if err != nil {
		return err
	}
	path, other := wire.PathAgentRenew, wire.PathRenewExpired
	if m.kind == Node {
		path = wire.PathNodeRenew
	}
	if now.After(m.Certificate().Leaf.NotAfter) {
		path, other = other, path
	}
	out, err := m.client.Renew(ctx, path, &wire.RenewRequest{CSR: csr})
	if wire.HasCode(err, wire.CodeUnauthorized) || wire.HasCode(err, wire.CodeForbidden) { // our clock and the master's may differ
		out, err = m.client.Renew(ctx, other, &wire.RenewRequest{CSR: csr})
	}
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	next := *m.Identity()
	next.Key, next.Certificate = key, out.Certificate
	if _, err := certificate(&next); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	if err := m.dir.SetIdentity(&next); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	if err := m.set(&next); err != nil {
		return err
	}
	m.client.Close()
	m.log.Info("certificate renewed", "expires", m.Certificate().Leaf.NotAfter)
	return nil
}
