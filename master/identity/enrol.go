package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/internal/opaque"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Enroll trades a token for an identity. The use is taken together with the public key that it is for, before the identity is
// made: so a token never gives two identities for one use, and an answer that was lost costs no use.
func (r *Registry) Enroll(ctx context.Context, q *wire.EnrollRequest) (*wire.EnrollResponse, error) {
	key, err := requestKey(q)
	if err != nil {
		return nil, err
	}
	r.enrolling.Lock()
	defer r.enrolling.Unlock()
	token, g, err := r.spend(ctx, q, key)
	if err != nil {
		return nil, err
	}
	if g.ID == "" {
		if g.ID, g.Name, err = r.create(ctx, token.Project, q); err != nil {
			return nil, err
		}
		if err := r.granted(ctx, token.ID, q.Kind, g); err != nil {
			return nil, fmt.Errorf("enrol %s: %w", g.ID, err)
		}
	}
	who := ca.Identity{Kind: q.Kind, Project: token.Project, ID: g.ID}
	if err := r.refused(who); err != nil {
		return nil, err
	}
	chain, err := r.issue(ctx, q.CSR, who)
	if err != nil {
		return nil, err
	}
	return &wire.EnrollResponse{
		ID: g.ID, Name: g.Name, Project: token.Project, Certificate: chain, CA: r.ca.Certificate().Raw, MasterKey: r.masterKey,
	}, nil
}

// requestKey checks everything in a request that needs no token, and returns the hash of its public key.
func requestKey(q *wire.EnrollRequest) ([]byte, error) {
	if len(q.Name) > wire.MaxNameLength || len(q.Fingerprint) > wire.MaxNameLength || len(q.Version) > wire.MaxNameLength {
		return nil, wire.NewProblem(400, wire.CodeBadRequest, "name, fingerprint and version have at most %d bytes", wire.MaxNameLength)
	}
	if q.Kind == ca.KindAgent && (len(q.SigningKey) != ed25519.PublicKeySize || !ed25519.Verify(q.SigningKey, q.CSR, q.SigningSig)) {
		return nil, wire.NewProblem(400, wire.CodeBadRequest, "the agent did not prove that it has its signing key")
	}
	public, err := ca.CheckRequest(q.CSR)
	if err != nil {
		return nil, wire.NewProblem(400, wire.CodeBadRequest, "%v", err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, wire.NewProblem(400, wire.CodeBadRequest, "public key: %v", err)
	}
	// An agent's signing key is part of what it asks for: another one is another request.
	h := sha256.Sum256(append(der, q.SigningKey...))
	return h[:], nil
}

// create makes the machine or the node.
func (r *Registry) create(ctx context.Context, project string, q *wire.EnrollRequest) (id, name string, err error) {
	if q.Kind == ca.KindAgent {
		return r.machines.Enrol(ctx, project, q)
	}
	n := Node{
		ID: "node-" + opaque.Hex(8), Project: project, Name: strings.ToValidUTF8(fmt.Sprintf("%.63s", q.Name), ""), Created: r.clock.Now(), LastSeen: r.clock.Now(),
		Version: strings.ToValidUTF8(fmt.Sprintf("%.80s", q.Version), ""), Fingerprint: q.Fingerprint,
	}
	return n.ID, n.Name, r.db.Update(ctx, func(tx store.Writer) error { return put(tx, tableNodes, n.ID, &n) })
}

// granted notes which identity came of a use.
func (r *Registry) granted(ctx context.Context, token, kind string, g grant) error {
	return r.db.Update(ctx, func(tx store.Writer) error {
		var t EnrolToken
		if err := get(tx, tableEnrol, token, &t); err != nil {
			if wire.HasCode(err, wire.CodeNotFound) { // removed meanwhile: the use was good when it was taken
				return nil
			}
			return err
		}
		t.UsedBy = append(t.UsedBy, kind+"/"+g.ID)
		for i := range t.Grants {
			if opaque.Same(t.Grants[i].Key, g.Key) {
				t.Grants[i] = g
			}
		}
		return put(tx, tableEnrol, t.ID, &t)
	})
}

// spend takes one use of the token of a request, if it is good for it, or finds the use that the same key took before. A wrong
// secret and an unknown id look the same.
func (r *Registry) spend(ctx context.Context, q *wire.EnrollRequest, key []byte) (*EnrolToken, grant, error) {
	var t EnrolToken
	var g grant
	var refused error
	err := r.db.Update(ctx, func(tx store.Writer) error {
		t, g, refused = EnrolToken{}, grant{Key: key}, nil
		err := get(tx, tableEnrol, fmt.Sprintf("%.32s", q.TokenID), &t)
		const again = "make a new one: openmigrate tokens enroll"
		had := slices.IndexFunc(t.Grants, func(g grant) bool { return opaque.Same(g.Key, key) })
		switch {
		case wire.HasCode(err, wire.CodeNotFound), err == nil && !opaque.Same(t.Secret, opaque.Hash(q.Secret)):
			refused = wire.NewProblem(401, wire.CodeUnauthorized, "this enrolment token is not known here").WithNext(again)
		case err != nil:
			return err
		case t.Kind != q.Kind:
			refused = wire.NewProblem(403, wire.CodeForbidden, "this enrolment token is for a kind %s, not %.20s", t.Kind, q.Kind)
		case r.clock.Now().After(t.Expires):
			refused = wire.NewProblem(401, wire.CodeTokenExpired, "this enrolment token expired at %s", t.Expires.Format(time.RFC3339)).WithNext(again)
		case had >= 0:
			g = t.Grants[had]
			return nil
		case t.Uses < 1:
			refused = wire.NewProblem(401, wire.CodeTokenUsed, "this enrolment token was used already").
				WithNext("if that was not you, look at 'openmigrate machines ls'; " + again)
		}
		if refused != nil {
			return nil
		}
		t.Uses--
		t.Grants = append(t.Grants, g)
		t.Grants = t.Grants[max(0, len(t.Grants)-maxGrants):]
		return put(tx, tableEnrol, t.ID, &t)
	})
	if err != nil {
		return nil, g, fmt.Errorf("spend enrolment token: %w", err)
	}
	return &t, g, refused
}
