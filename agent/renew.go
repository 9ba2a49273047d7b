package agent

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// renewCheck is how often the certificate's age is looked at. A clock that jumps is noticed within it.
const renewCheck = time.Minute

// renewals renews the certificate at two thirds of its life. It returns when ctx ends, or when the master refuses for good.
func (a *agent) renewals(ctx context.Context) error {
	b := newBackoff(renewCheck/4, 10*renewCheck)
	for {
		wait := renewCheck
		if renewDue(a.id.certificate().Leaf, a.clock.Now()) {
			err := a.renew(ctx)
			switch {
			case err == nil:
				b.reset()
			case ctx.Err() != nil:
				return nil
			case final(err):
				return err
			default:
				wait = b.step()
				a.log.Warn("the certificate could not be renewed", "error", err, "expires", a.id.certificate().Leaf.NotAfter)
			}
		}
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// renewDue reports whether two thirds of a certificate's life have passed.
func renewDue(leaf *x509.Certificate, now time.Time) bool {
	return now.After(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3))
}

// renew gets a certificate for a new key. It is durable before it is used; until then the old one is good.
func (a *agent) renew(ctx context.Context) error {
	key, csr, err := newKey()
	if err != nil {
		return err
	}
	path, other := wire.PathAgentRenew, wire.PathRenewExpired
	if a.clock.Now().After(a.id.certificate().Leaf.NotAfter) {
		path, other = other, path
	}
	out, err := a.client.Renew(ctx, path, &wire.RenewRequest{CSR: csr})
	if wire.HasCode(err, wire.CodeUnauthorized) || wire.HasCode(err, wire.CodeForbidden) { // our clock and the master's may differ
		out, err = a.client.Renew(ctx, other, &wire.RenewRequest{CSR: csr})
	}
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	next := *a.id.get()
	next.Key, next.Certificate = key, out.Certificate
	if _, err := certificate(&next); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	if err := a.dir.SetIdentity(&next); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	if err := a.id.set(&next); err != nil {
		return err
	}
	a.client.Close()
	a.log.Info("certificate renewed", "expires", a.id.certificate().Leaf.NotAfter)
	return nil
}
