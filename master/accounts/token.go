package accounts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/internal/opaque"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Token is a script's right, or a person's tool's, to use the API.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Project string    `json:"project"` // or AllProjects
	Role    string    `json:"role"`
	Scopes  []string  `json:"scopes,omitempty"` // empty: all that the role may
	Owner   string    `json:"owner,omitempty"`  // user whose rights it never exceeds; empty: nobody's
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
	Used    time.Time `json:"used,omitzero"`    // to the hour
	Secret  []byte    `json:"secret,omitempty"` // SHA-256
}

// tokenPrefix begins every API token, so that secret scanners know one.
const tokenPrefix = "omt_"

const (
	// expiredKept is how long a token can be seen after its end.
	expiredKept = 7 * 24 * time.Hour
	// usedEvery is how often the use of a token is written down.
	usedEvery = time.Hour
	// maxTokens that have not ended, of all projects.
	maxTokens = 20000
)

// NewToken makes an API token of what t says of name, project, role and scopes; zero valid never ends. by makes it, and can give no more
// than he has; nil is the master itself. The text is returned once and kept nowhere.
func (s *Service) NewToken(ctx context.Context, by *Principal, t Token, valid time.Duration) (*Token, string, error) {
	if t.Name == "" || len(t.Name) > wire.MaxNameLength || t.Name != cut(t.Name, wire.MaxNameLength) {
		return nil, "", bad("name", "a token needs a name of at most %d bytes of UTF-8", wire.MaxNameLength)
	}
	if valid < 0 {
		return nil, "", bad("valid", "a token needs a time that is not negative")
	}
	if t.Project != AllProjects && !projectName.MatchString(t.Project) {
		return nil, "", bad("project", "project %.80q: want a project's name, or %s for all", t.Project, AllProjects)
	}
	if err := errors.Join(checkRole("role", t.Role), checkScopes(t.Scopes)); err != nil {
		return nil, "", err
	}
	t.Owner = ""
	if by != nil {
		if err := by.mayGive(&t); err != nil {
			return nil, "", err
		}
		t.Owner = by.User
	}
	t.ID, t.Created, t.Expires, t.Used = opaque.Hex(8), s.clock.Now(), time.Time{}, time.Time{}
	if valid > 0 {
		t.Expires = t.Created.Add(valid)
	}
	text := tokenPrefix + t.ID + "_" + opaque.Hex(20)
	t.Secret = opaque.Hash(text)
	if err := s.db.Update(ctx, func(tx store.Writer) error {
		if err := pruneTokens(tx, t.Created); err != nil {
			return err
		}
		return tableTokens.Put(tx, t.ID, &t)
	}); err != nil {
		return nil, "", fmt.Errorf("make token: %w", err)
	}
	t.Secret = nil
	return &t, text, nil
}

// mayGive refuses tokens that could do more than who makes them.
func (p *Principal) mayGive(t *Token) error {
	if has := p.Role(t.Project); !May(has, t.Role) {
		return forbidden("the %s %q has not the role %s in project %s, so it cannot give it away", p.Kind, p.Name, t.Role, t.Project)
	}
	if len(p.scopes) == 0 {
		return nil
	}
	if len(t.Scopes) == 0 {
		return bad("scopes", "a token with scopes makes only tokens with scopes")
	}
	for _, s := range t.Scopes {
		resource, _, read := strings.Cut(s, ":")
		if !inScope(p.scopes, resource, !read) {
			return forbidden("the token %q is not for %s, so it cannot give that away", p.Name, s)
		}
	}
	return nil
}

// pruneTokens removes those that ended long ago, and refuses more than may be.
func pruneTokens(tx store.Writer, now time.Time) error {
	var old []string
	n := 0
	err := tableTokens.Scan(tx, "", "", func(id string, t *Token) error {
		if n++; !t.Expires.IsZero() && !now.Before(t.Expires.Add(expiredKept)) {
			old = append(old, id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range old {
		if err := tableTokens.Delete(tx, id); err != nil {
			return err
		}
	}
	if n-len(old) >= maxTokens {
		return wire.NewProblem(409, wire.CodeConflict, "there are %d API tokens, and no more than that may be", n-len(old)).
			WithNext("remove some with 'openmigrate tokens rm', and give new ones an end")
	}
	return nil
}

// Bearer finds who an API token's text is: CodeUnauthorized.
func (s *Service) Bearer(ctx context.Context, text string) (*Principal, error) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	id, _, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 || len(text) > 200 {
		return nil, noToken()
	}
	now := s.clock.Now()
	var p *Principal
	var touch bool
	err := s.db.View(ctx, func(tx store.Reader) error {
		t, err := tableTokens.Get(tx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && !opaque.Same(t.Secret, opaque.Hash(text)) {
			return noToken()
		}
		if err != nil {
			return err
		}
		touch = now.Sub(t.Used) >= usedEvery
		p, err = s.tokenPrincipal(tx, t, now)
		return err
	})
	if err != nil || !touch {
		return p, err
	}
	return p, s.touch(ctx, func(tx store.Writer) error {
		t, err := tableTokens.Get(tx, id)
		if errors.Is(err, store.ErrNotFound) {
			return noToken()
		}
		if err != nil || !t.Used.Before(now) {
			return err
		}
		t.Used = now
		return tableTokens.Put(tx, id, t)
	})
}

func noToken() error {
	return unauthorized("this token is not valid here").WithNext("set OPENMIGRATE_TOKEN to one that 'openmigrate tokens create' made")
}

// tokenPrincipal is who a token stands for. A user's is worth no more than he is.
func (s *Service) tokenPrincipal(tx store.Reader, t *Token, now time.Time) (*Principal, error) {
	if !t.Expires.IsZero() && now.After(t.Expires) {
		return nil, unauthorized("this token expired at %s", t.Expires.Format(time.RFC3339)).WithNext("make a new one")
	}
	role := t.Role
	if t.Owner != "" {
		u, err := user(tx, t.Owner)
		if wire.HasCode(err, wire.CodeNotFound) || err == nil && u.Disabled {
			return nil, unauthorized("the user whose token this is was removed or disabled")
		}
		if err != nil {
			return nil, err
		}
		role = lesser(role, roleIn(u.Roles, t.Project))
	}
	return &Principal{Kind: KindToken, ID: t.ID, User: t.Owner, Name: t.Name, Project: t.Project, Expires: t.Expires,
		roles: map[string]string{t.Project: role}, scopes: slices.Clone(t.Scopes)}, nil
}

// Tokens lists the API tokens of a project, without their hashes; of all with AllProjects.
func (s *Service) Tokens(ctx context.Context, project string) ([]Token, error) {
	tokens := []Token{}
	err := s.db.View(ctx, func(tx store.Reader) error {
		return tableTokens.Scan(tx, "", "", func(_ string, t *Token) error {
			if t.Project == project || project == AllProjects {
				t.Secret = nil
				tokens = append(tokens, *t)
			}
			return nil
		})
	})
	return tokens, err
}

// Token finds an API token, without its hash: CodeNotFound.
func (s *Service) Token(ctx context.Context, id string) (*Token, error) {
	var t *Token
	err := s.db.View(ctx, func(tx store.Reader) (err error) {
		t, err = tableTokens.Get(tx, cut(id, 64))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound("token", id)
	}
	if err != nil {
		return nil, err
	}
	t.Secret = nil
	return t, nil
}

// RemoveToken makes an API token worthless, at once: CodeNotFound.
func (s *Service) RemoveToken(ctx context.Context, id string) error {
	err := s.db.Update(ctx, func(tx store.Writer) error {
		if _, err := tableTokens.Get(tx, cut(id, 64)); errors.Is(err, store.ErrNotFound) {
			return notFound("token", id)
		} else if err != nil {
			return err
		}
		return tableTokens.Delete(tx, id)
	})
	if err == nil {
		s.live.end("token/"+id, noToken())
	}
	return err
}
