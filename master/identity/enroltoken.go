package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/internal/opaque"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// EnrolToken is a stored enrolment token. The secret is there as a hash only.
type EnrolToken struct {
	ID      string    `json:"id"`
	Project string    `json:"project"`
	Kind    string    `json:"kind"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"`    // that are left
	UsedBy  []string  `json:"used_by"` // identities
	ByWhom  string    `json:"by_whom"` // who made it
	Secret  []byte    `json:"secret"`  // SHA-256
	Grants  []grant   `json:"grants,omitempty"`
}

// grant is one use of a token. Who asks again with the same key did not get the answer, and gets the same identity.
type grant struct {
	Key  []byte `json:"key"` // SHA-256 of the public key in the request
	ID   string `json:"id"`  // empty until the identity is made
	Name string `json:"name"`
}

// Limits of enrolment tokens.
const (
	DefaultTokenValid = 24 * time.Hour
	maxTokenValid     = 30 * 24 * time.Hour
	maxTokenUses      = 10000
	maxGrants         = 256 // that are remembered for who asks again; the newest
)

// NewEnrolToken makes a token for one kind of identity. Zero valid means a day, zero uses one. The text, which holds the
// secret, is returned once and kept nowhere.
func (r *Registry) NewEnrolToken(ctx context.Context, url, project, kind, byWhom string, valid time.Duration, uses int) (*EnrolToken, string, error) {
	if kind != ca.KindAgent && kind != ca.KindNode {
		return nil, "", wire.NewProblem(400, wire.CodeBadRequest, "kind %.40q: want agent or node", kind)
	}
	if valid == 0 {
		valid = DefaultTokenValid
	}
	uses = max(uses, 1)
	if valid < 0 || valid > maxTokenValid || uses > maxTokenUses {
		return nil, "", wire.NewProblem(400, wire.CodeBadRequest, "a token is good for at most %v and %d uses", maxTokenValid, maxTokenUses)
	}
	text := wire.EnrolToken{URL: url, ID: opaque.Hex(8), Secret: opaque.Hex(16), Pin: wire.Pin(r.ca.Certificate())}
	now := r.clock.Now()
	t := &EnrolToken{ID: text.ID, Project: project, Kind: kind, Created: now, Expires: now.Add(valid), Uses: uses, ByWhom: byWhom, Secret: opaque.Hash(text.Secret)}
	if err := r.db.Update(ctx, func(tx store.Writer) error {
		if err := prune(tx, tableEnrol, now); err != nil {
			return err
		}
		return put(tx, tableEnrol, t.ID, t)
	}); err != nil {
		return nil, "", fmt.Errorf("make enrolment token: %w", err)
	}
	return t, text.Text(), nil
}

// EnrolTokens lists the enrolment tokens of a project, without their hashes.
func (r *Registry) EnrolTokens(ctx context.Context, project string) ([]EnrolToken, error) {
	tokens := []EnrolToken{}
	err := scan(ctx, r.db, tableEnrol, func(t *EnrolToken) {
		if t.Project == project {
			t.Secret, t.Grants = nil, nil
			tokens = append(tokens, *t)
		}
	})
	return tokens, err
}

// EnrolToken finds an enrolment token of a project, without its hash: CodeNotFound.
func (r *Registry) EnrolToken(ctx context.Context, project, id string) (*EnrolToken, error) {
	t := &EnrolToken{}
	err := r.db.View(ctx, func(tx store.Reader) error { return get(tx, tableEnrol, id, t) })
	if err == nil && t.Project != project {
		err = missing(id)
	}
	if err != nil {
		return nil, err
	}
	t.Secret, t.Grants = nil, nil
	return t, nil
}

// RemoveEnrolToken makes a token worthless.
func (r *Registry) RemoveEnrolToken(ctx context.Context, id string) error {
	return r.db.Update(ctx, func(tx store.Writer) error {
		if err := get(tx, tableEnrol, id, &EnrolToken{}); err != nil {
			return err
		}
		return tx.Delete(tableEnrol, []byte(id))
	})
}
