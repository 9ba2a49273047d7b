package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// keys are what an identity and its certificate are denied by.
func keys(who ca.Identity) [2]string {
	return [2]string{who.Kind + "/" + who.ID, "serial/" + who.Serial}
}

// refused returns CodeRevoked for who is on the deny-list.
func (r *Registry) refused(who ca.Identity) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refusedLocked(who)
}

func (r *Registry) refusedLocked(who ca.Identity) error {
	for _, k := range keys(who) {
		if reason, denied := r.denied[k]; denied {
			return revoked(reason)
		}
	}
	return nil
}

// Admit takes a certificate's identity into a request: CodeRevoked, or a context that ends when the identity or the certificate is
// revoked, with that problem as its cause. Call done at the end of the request.
func (r *Registry) Admit(ctx context.Context, who ca.Identity) (admitted context.Context, done func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refusedLocked(who); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r.next++
	n := r.next
	for _, k := range keys(who) {
		if r.live[k] == nil {
			r.live[k] = map[int]context.CancelCauseFunc{}
		}
		r.live[k][n] = cancel
	}
	return ctx, func() {
		r.mu.Lock()
		for _, k := range keys(who) {
			delete(r.live[k], n)
			if len(r.live[k]) == 0 {
				delete(r.live, k)
			}
		}
		r.mu.Unlock()
		cancel(nil)
	}, nil
}

func revoked(reason string) error {
	return wire.NewProblem(403, wire.CodeRevoked, "this identity was revoked: %s", reason).WithNext("enrol again with a new token")
}

// Revoke shuts an identity out for ever, at once.
func (r *Registry) Revoke(ctx context.Context, kind, id, reason string) error {
	return r.deny(ctx, kind+"/"+id, reason)
}

// RevokeSerial shuts one certificate out, at once. Its owner may go on with another one.
func (r *Registry) RevokeSerial(ctx context.Context, serial, reason string) error {
	return r.deny(ctx, "serial/"+serial, reason)
}

func (r *Registry) deny(ctx context.Context, key, reason string) error {
	if err := r.db.Update(ctx, func(tx store.Writer) error { return tx.Put(tableDenied, []byte(key), []byte(reason)) }); err != nil {
		return fmt.Errorf("revoke %s: %w", key, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.denied[key] = reason
	for _, cancel := range r.live[key] {
		cancel(revoked(reason))
	}
	return nil
}

// Renew signs a new key for an identity whose certificate was verified and which was admitted.
func (r *Registry) Renew(ctx context.Context, who ca.Identity, csr []byte) (*wire.RenewResponse, error) {
	chain, err := r.issue(ctx, csr, who)
	if err != nil {
		return nil, err
	}
	return &wire.RenewResponse{Certificate: chain}, nil
}

// Issued is a certificate that was given out.
type Issued struct {
	Serial string    `json:"serial"`
	Time   time.Time `json:"time"`
}

// maxIssued is how many certificates are remembered for each identity.
const maxIssued = 32

// issue signs a certificate, and notes its serial number before anybody gets it.
func (r *Registry) issue(ctx context.Context, csr []byte, who ca.Identity) ([][]byte, error) {
	chain, serial, err := r.ca.Sign(csr, who)
	if errors.Is(err, ca.ErrRequest) {
		return nil, wire.NewProblem(400, wire.CodeBadRequest, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	key := who.Kind + "/" + who.ID
	err = r.db.Update(ctx, func(tx store.Writer) error {
		var list []Issued
		if err := get(tx, tableIssued, key, &list); err != nil && !wire.HasCode(err, wire.CodeNotFound) {
			return err
		}
		list = append(list, Issued{Serial: serial, Time: r.clock.Now()})
		return put(tx, tableIssued, key, list[max(0, len(list)-maxIssued):])
	})
	if err != nil {
		return nil, fmt.Errorf("note certificate of %s: %w", key, err)
	}
	return chain, nil
}

// Issued lists the last certificates of an identity, oldest first.
func (r *Registry) Issued(ctx context.Context, kind, id string) ([]Issued, error) {
	var list []Issued
	err := r.db.View(ctx, func(tx store.Reader) error { return get(tx, tableIssued, kind+"/"+id, &list) })
	return list, err
}
