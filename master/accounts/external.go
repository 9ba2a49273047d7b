package accounts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"strings"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// External is somebody whom an OpenID Connect provider vouches for. Issuer and Subject are who he is; nothing else is.
type External struct {
	Issuer, Subject string
	Name            string            // that he would like; may be anything
	Email           string            // verified by the provider, to be shown; may be empty
	Roles           map[string]string // that the provider's claims give him
}

// key is under which a subject is known.
func (e *External) key() string {
	h := sha256.Sum256([]byte(e.Issuer + "\x00" + e.Subject))
	return hex.EncodeToString(h[:])
}

// LoginExternal begins a session for somebody whom a provider vouches for. Who comes for the first time becomes a user of his own if claims give
// him a role, or spends a one-time link, which binds him to the link's user. He never becomes a user that exists by name or address: providers let people
// choose those. Roles of a user that was made by claims follow the claims at each login; CodeForbidden: they give him none any more.
func (s *Service) LoginExternal(ctx context.Context, e External, link, address, agent string) (*Login, error) {
	if e.Issuer == "" || e.Subject == "" {
		return nil, unauthorized("the provider did not say who this is")
	}
	if err := checkRoles(e.Roles); err != nil {
		return nil, err
	}
	l := &Login{}
	var changed string
	err := s.db.Update(ctx, func(tx store.Writer) error {
		changed = ""
		row, err := s.externalUser(tx, &e, link)
		if err != nil {
			return err
		}
		if row.Disabled {
			return forbidden("the user %s is disabled", row.Name)
		}
		if row.ByClaims {
			if len(e.Roles) == 0 {
				return forbidden("nothing that the provider says of %s gives a role here", row.Name)
			}
			if could := row.rules(); !maps.Equal(row.Roles, e.Roles) {
				row.Roles, row.Revision, row.Changed, changed = maps.Clone(e.Roles), row.Revision+1, s.clock.Now(), row.ID
				if err := tableUsers.Put(tx, row.ID, row); err != nil {
					return err
				}
				if err := someAdmin(tx, could); err != nil {
					return err
				}
			}
			if validEmail(e.Email) {
				row.Email = e.Email
			}
		}
		row.LastLogin = s.clock.Now()
		if err := tableUsers.Put(tx, row.ID, row); err != nil {
			return err
		}
		l.User = *row.shown()
		session, text, err := s.addSession(tx, row.ID, address, agent, "oidc")
		if err != nil {
			return err
		}
		l.Session, l.Cookie = *session, text
		return nil
	})
	if err != nil {
		return nil, err
	}
	if changed != "" {
		s.live.end("user/"+changed, unauthorized("your rights were changed").WithNext("connect again"))
	}
	return l, nil
}

// externalUser finds whose subject it is, or makes it somebody's.
func (s *Service) externalUser(tx store.Writer, e *External, link string) (*userRow, error) {
	id, err := tableSubjects.Get(tx, e.key())
	switch {
	case err == nil && link != "":
		return nil, wire.NewProblem(409, wire.CodeConflict, "the person that the provider vouches for is a user here already").WithNext("log in without the link")
	case err == nil:
		return user(tx, *id)
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	var row *userRow
	switch {
	case link != "":
		row, err = s.linkedUser(tx, e, link)
	case len(e.Roles) == 0:
		return nil, forbidden("nothing that the provider says of this person gives a role here")
	default:
		if row, err = s.addUser(tx, s.freeName(tx, e), "", e.Roles); err == nil {
			row.ByClaims = true
		}
	}
	if err != nil {
		return nil, err
	}
	row.External = e.key()
	return row, tableSubjects.Put(tx, e.key(), &row.ID)
}

// linkedUser spends a link.
func (s *Service) linkedUser(tx store.Writer, e *External, link string) (*userRow, error) {
	l, err := s.findLink(tx, link)
	if err != nil {
		return nil, err
	}
	if err := tableLinks.Delete(tx, l.ID); err != nil {
		return nil, err
	}
	if l.Kind == LinkFirst {
		if none, err := nobody(tx); err != nil {
			return nil, err
		} else if !none {
			return nil, wire.NewProblem(409, wire.CodeConflict, "there are users already").WithNext("ask an admin to make you one")
		}
		return s.addUser(tx, s.freeName(tx, e), "", map[string]string{AllProjects: RoleAdmin})
	}
	row, err := user(tx, l.User)
	if err == nil && row.External != "" {
		err = wire.NewProblem(409, wire.CodeConflict, "the user %s logs in as another person already", row.Name)
	}
	return row, err
}

// freeName is a name that nobody has: the wanted one if it can be.
func (s *Service) freeName(tx store.Reader, e *External) string {
	name := strings.ToLower(e.Name)
	if userName.MatchString(name) {
		if _, err := tableNames.Get(tx, name); errors.Is(err, store.ErrNotFound) {
			return name
		}
	}
	name = strings.TrimLeft(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return -1
	}, name), ".-")
	if name == "" {
		name = "user"
	}
	return name[:min(len(name), 40)] + "+" + e.key()[:16]
}

func validEmail(s string) bool {
	return len(s) <= maxEmail && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}
