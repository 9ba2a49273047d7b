package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Roles, each of which includes those before it.
const (
	RoleViewer   = "viewer"   // reads
	RoleOperator = "operator" // changes machines and restpoints, restores
	RoleAdmin    = "admin"    // tokens, enrolment, staging
)

var roles = []string{RoleViewer, RoleOperator, RoleAdmin}

// Token is a person's or a script's right to use the API.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Project string    `json:"project"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
	Secret  []byte    `json:"secret,omitempty"` // SHA-256
}

// tokenPrefix begins every API token, so that secret scanners know one.
const tokenPrefix = "omt_"

// May reports whether a role includes another.
func May(role, needed string) bool {
	return slices.Contains(roles, needed) && slices.Index(roles, role) >= slices.Index(roles, needed)
}

// NewToken makes an API token; zero valid never ends. The text is returned once and kept nowhere.
func (r *Registry) NewToken(ctx context.Context, project, name, role string, valid time.Duration) (*Token, string, error) {
	if !slices.Contains(roles, role) {
		return nil, "", wire.NewProblem(400, wire.CodeBadRequest, "role %.40q: want %s", role, strings.Join(roles, ", "))
	}
	if name == "" || len(name) > wire.MaxNameLength || valid < 0 {
		return nil, "", wire.NewProblem(400, wire.CodeBadRequest, "a token needs a name of at most %d bytes and a time that is not negative", wire.MaxNameLength)
	}
	t := &Token{ID: randomHex(8), Name: name, Project: project, Role: role, Created: r.clock.Now()}
	if valid > 0 {
		t.Expires = t.Created.Add(valid)
	}
	text := tokenPrefix + t.ID + "_" + randomHex(20)
	t.Secret = hashSecret(text)
	if err := r.db.Update(ctx, func(tx store.Writer) error {
		if err := prune(tx, tableTokens, t.Created); err != nil {
			return err
		}
		return put(tx, tableTokens, t.ID, t)
	}); err != nil {
		return nil, "", fmt.Errorf("make token: %w", err)
	}
	return t, text, nil
}

// Authenticate finds whose token a text is: CodeUnauthorized.
func (r *Registry) Authenticate(ctx context.Context, text string) (*Token, error) {
	wrong := wire.NewProblem(401, wire.CodeUnauthorized, "this token is not valid here").
		WithNext("set OPENMIGRATE_TOKEN to one that 'openmigrate tokens create' made")
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	id, _, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 || len(text) > 200 {
		return nil, wrong
	}
	var t Token
	err := r.db.View(ctx, func(tx store.Reader) error { return get(tx, tableTokens, id, &t) })
	switch {
	case wire.HasCode(err, wire.CodeNotFound), err == nil && !sameHash(t.Secret, hashSecret(text)):
		return nil, wrong
	case err != nil:
		return nil, err
	case !t.Expires.IsZero() && r.clock.Now().After(t.Expires):
		return nil, wire.NewProblem(401, wire.CodeUnauthorized, "this token expired at %s", t.Expires.Format(time.RFC3339))
	}
	return &t, nil
}

// Tokens lists the API tokens of a project, without their hashes.
func (r *Registry) Tokens(ctx context.Context, project string) ([]Token, error) {
	tokens := []Token{}
	err := scan(ctx, r.db, tableTokens, func(t *Token) {
		if t.Project == project {
			t.Secret = nil
			tokens = append(tokens, *t)
		}
	})
	return tokens, err
}

// RemoveToken makes an API token worthless.
func (r *Registry) RemoveToken(ctx context.Context, id string) error {
	return r.db.Update(ctx, func(tx store.Writer) error {
		if err := get(tx, tableTokens, id, &Token{}); err != nil {
			return err
		}
		return tx.Delete(tableTokens, []byte(id))
	})
}
