package identity

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

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
}

// Limits of enrolment tokens.
const (
	DefaultTokenValid = 24 * time.Hour
	maxTokenValid     = 30 * 24 * time.Hour
	maxTokenUses      = 10000
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
	text := wire.EnrolToken{URL: url, ID: randomHex(8), Secret: randomHex(16), Pin: wire.Pin(r.ca.Certificate())}
	now := r.clock.Now()
	t := &EnrolToken{ID: text.ID, Project: project, Kind: kind, Created: now, Expires: now.Add(valid), Uses: uses, ByWhom: byWhom, Secret: hashSecret(text.Secret)}
	if err := r.db.Update(ctx, func(tx store.Writer) error { return put(tx, tableEnrol, t.ID, t) }); err != nil {
		return nil, "", fmt.Errorf("make enrolment token: %w", err)
	}
	return t, text.Text(), nil
}

// EnrolTokens lists the enrolment tokens of a project, without their hashes.
func (r *Registry) EnrolTokens(ctx context.Context, project string) ([]EnrolToken, error) {
	tokens := []EnrolToken{}
	err := scan(ctx, r.db, tableEnrol, func(t *EnrolToken) {
		if t.Project == project {
			t.Secret = nil
			tokens = append(tokens, *t)
		}
	})
	return tokens, err
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

// Enroll trades a token for an identity. The token's use is taken first: a failure after that costs the use, never gives
// two identities for one.
func (r *Registry) Enroll(ctx context.Context, q *wire.EnrollRequest) (*wire.EnrollResponse, error) {
	if q.Kind == ca.KindAgent {
		if len(q.SigningKey) != ed25519.PublicKeySize || !ed25519.Verify(q.SigningKey, q.CSR, q.SigningSig) {
			return nil, wire.NewProblem(400, wire.CodeBadRequest, "the agent did not prove that it has its signing key")
		}
	}
	who := ca.Identity{Kind: q.Kind, ID: randomHex(8)}
	if q.Kind == ca.KindNode {
		who.ID = "node-" + who.ID
	}
	token, err := r.spend(ctx, q)
	if err != nil {
		return nil, err
	}
	who.Project = token.Project
	out := &wire.EnrollResponse{Project: token.Project, CA: r.ca.Certificate().Raw, MasterKey: r.masterKey}
	if q.Kind == ca.KindAgent {
		if who.ID, out.Name, err = r.machines.Enrol(ctx, token.Project, q); err != nil {
			return nil, err
		}
	} else {
		out.Name = fmt.Sprintf("%.63s", q.Name)
		n := Node{ID: who.ID, Project: token.Project, Name: out.Name, Created: r.clock.Now(), LastSeen: r.clock.Now(), Version: fmt.Sprintf("%.80s", q.Version)}
		if err := r.db.Update(ctx, func(tx store.Writer) error { return put(tx, tableNodes, n.ID, &n) }); err != nil {
			return nil, err
		}
	}
	out.ID = who.ID
	if out.Certificate, _, err = r.ca.Sign(q.CSR, who); err != nil {
		return nil, wire.NewProblem(400, wire.CodeBadRequest, "%v", err)
	}
	err = r.db.Update(ctx, func(tx store.Writer) error {
		var t EnrolToken
		if err := get(tx, tableEnrol, token.ID, &t); err != nil {
			return err
		}
		t.UsedBy = append(t.UsedBy, who.Kind+"/"+who.ID)
		return put(tx, tableEnrol, t.ID, &t)
	})
	return out, err
}

// spend takes one use of the token of a request, if it is good for it. A wrong secret and an unknown id look the same.
func (r *Registry) spend(ctx context.Context, q *wire.EnrollRequest) (*EnrolToken, error) {
	var t EnrolToken
	var refused error
	err := r.db.Update(ctx, func(tx store.Writer) error {
		refused = nil
		err := get(tx, tableEnrol, fmt.Sprintf("%.32s", q.TokenID), &t)
		switch {
		case wire.HasCode(err, wire.CodeNotFound), err == nil && !sameHash(t.Secret, hashSecret(q.Secret)):
			refused = wire.NewProblem(401, wire.CodeUnauthorized, "this enrolment token is not known here").
				WithNext("make a new one: openmigrate tokens enroll")
		case err != nil:
			return err
		case r.clock.Now().After(t.Expires):
			refused = wire.NewProblem(401, wire.CodeTokenExpired, "this enrolment token expired at %s", t.Expires.Format(time.RFC3339)).
				WithNext("make a new one: openmigrate tokens enroll")
		case t.Uses < 1:
			refused = wire.NewProblem(401, wire.CodeTokenUsed, "this enrolment token was used already").
				WithNext("if that was not you, look at 'openmigrate machines ls'; make a new one: openmigrate tokens enroll")
		case t.Kind != q.Kind:
			refused = wire.NewProblem(403, wire.CodeForbidden, "this enrolment token is for a kind %s, not %.20s", t.Kind, q.Kind)
		}
		if refused != nil {
			return nil
		}
		t.Uses--
		return put(tx, tableEnrol, t.ID, &t)
	})
	if err != nil {
		return nil, fmt.Errorf("spend enrolment token: %w", err)
	}
	if refused != nil {
		return nil, refused
	}
	return &t, nil
}
