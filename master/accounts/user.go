package accounts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/internal/opaque"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// User is a person who may log in.
type User struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Email     string            `json:"email,omitempty"` // to be shown; nothing is decided by it
	Roles     map[string]string `json:"roles"`           // project, or AllProjects → role
	Disabled  bool              `json:"disabled,omitempty"`
	Password  bool              `json:"password"` // can log in with one
	Subject   bool              `json:"subject"`  // can log in through OpenID Connect
	Created   time.Time         `json:"created"`
	Changed   time.Time         `json:"changed"`
	LastLogin time.Time         `json:"last_login,omitzero"`
	ByClaims  bool              `json:"by_claims,omitempty"` // roles follow the claims of an OpenID Connect provider
	Revision  uint64            `json:"revision"`            // counts changes
}

// userRow is what is stored of a User.
type userRow struct {
	User
	Hash     string `json:"hash,omitempty"`        // of the password
	External string `json:"subject_key,omitempty"` // in tableSubjects
}

// shown is the user without secrets.
func (r *userRow) shown() *User {
	u := r.User
	u.Roles = maps.Clone(u.Roles)
	u.Password, u.Subject = r.Hash != "", r.External != ""
	return &u
}

// Limits of users.
const (
	maxUsers = 10000
	maxEmail = 254 // RFC 5321, erratum 1690
)

// userName is what users are called: plain ASCII, so that no two names look the same. Names are compared in lower case.
var userName = regexp.MustCompile(`^[a-z0-9][a-z0-9._@+-]{0,63}$`)

// CreateUser makes a user who can not log in yet: give him a link (NewLink), a password, or a subject.
func (s *Service) CreateUser(ctx context.Context, name, email string, of map[string]string) (*User, error) {
	var row *userRow
	err := s.db.Update(ctx, func(tx store.Writer) (err error) {
		row, err = s.addUser(tx, name, email, of)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make user: %w", err)
	}
	return row.shown(), nil
}

func (s *Service) addUser(tx store.Writer, name, email string, of map[string]string) (*userRow, error) {
	name = strings.ToLower(name)
	if !userName.MatchString(name) {
		return nil, bad("name", "name %.80q: want 1 to 64 letters, digits and . _ @ + - that begin with a letter or digit", name)
	}
	if !validEmail(email) {
		return nil, bad("email", "email: want at most %d characters without spaces", maxEmail)
	}
	if err := checkRoles(of); err != nil {
		return nil, err
	}
	if _, err := tableNames.Get(tx, name); err == nil {
		return nil, wire.NewProblem(409, wire.CodeConflict, "there is a user %q already", name)
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	n := 0
	if err := tableNames.Scan(tx, "", "", func(string, *string) error { n++; return nil }); err != nil {
		return nil, err
	}
	if n >= maxUsers {
		return nil, wire.NewProblem(409, wire.CodeConflict, "there are %d users, and no more than that may be", n)
	}
	now := s.clock.Now()
	row := &userRow{User: User{ID: "user-" + opaque.Hex(8), Name: name, Email: email, Roles: maps.Clone(of), Created: now, Changed: now, Revision: 1}}
	if err := tableNames.Put(tx, name, &row.ID); err != nil {
		return nil, err
	}
	return row, tableUsers.Put(tx, row.ID, row)
}

// User finds a user: CodeNotFound.
func (s *Service) User(ctx context.Context, id string) (*User, error) {
	var u *User
	err := s.db.View(ctx, func(tx store.Reader) error {
		row, err := user(tx, id)
		if err == nil {
			u = row.shown()
		}
		return err
	})
	return u, err
}

func user(tx store.Reader, id string) (*userRow, error) {
	row, err := tableUsers.Get(tx, cut(id, 64))
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound("user", id)
	}
	return row, err
}

// Users lists at most limit users whose names come after one, in the order of their names.
func (s *Service) Users(ctx context.Context, after string, limit int) ([]User, error) {
	list := []User{}
	err := s.db.View(ctx, func(tx store.Reader) error {
		return tableNames.Scan(tx, "", after, func(name string, id *string) error {
			if name == after && after != "" {
				return nil
			}
			if len(list) >= limit {
				return store.ErrStop
			}
			row, err := tableUsers.Get(tx, *id)
			if err != nil {
				return err
			}
			list = append(list, *row.shown())
			return nil
		})
	})
	return list, err
}

// UserChange is what may be changed of a user; nil: as it is.
type UserChange struct {
	Email    *string
	Roles    map[string]string
	Disabled *bool
}

// ChangeUser changes a user whose revision is that one (0: any): CodeStale when it is another. Who loses rights is torn out of what
// he does, and comes back with those that he has left.
func (s *Service) ChangeUser(ctx context.Context, id string, revision uint64, c UserChange) (*User, error) {
	if err := checkRoles(c.Roles); err != nil {
		return nil, err
	}
	if c.Email != nil && !validEmail(*c.Email) {
		return nil, bad("email", "email: want at most %d characters without spaces", maxEmail)
	}
	var row *userRow
	err := s.db.Update(ctx, func(tx store.Writer) (err error) {
		if row, err = user(tx, id); err != nil {
			return err
		}
		if revision != 0 && revision != row.Revision {
			return wire.NewProblem(412, wire.CodeStale, "user %s was changed meanwhile", row.Name).WithNext("read it again, then change it")
		}
		could := row.rules()
		if c.Email != nil {
			row.Email = *c.Email
		}
		if c.Roles != nil {
			if row.ByClaims {
				return wire.NewProblem(409, wire.CodeConflict, "the roles of %s come from the OpenID Connect provider", row.Name).WithNext("change them there")
			}
			row.Roles = maps.Clone(c.Roles)
		}
		if c.Disabled != nil {
			row.Disabled = *c.Disabled
		}
		row.Revision, row.Changed = row.Revision+1, s.clock.Now()
		if row.Disabled {
			if _, err := endSessions(tx, id, ""); err != nil {
				return err
			}
		}
		if err := tableUsers.Put(tx, id, row); err != nil {
			return err
		}
		return someAdmin(tx, could)
	})
	if err != nil {
		return nil, err
	}
	if c.Roles != nil || c.Disabled != nil {
		s.live.end("user/"+id, unauthorized("your rights were changed").WithNext("connect again"))
	}
	return row.shown(), nil
}

// RemoveUser removes a user, with sessions and links. Tokens of his are worth nothing from then on.
func (s *Service) RemoveUser(ctx context.Context, id string, revision uint64) error {
	err := s.db.Update(ctx, func(tx store.Writer) error {
		row, err := user(tx, id)
		if err != nil {
			return err
		}
		if revision != 0 && revision != row.Revision {
			return wire.NewProblem(412, wire.CodeStale, "user %s was changed meanwhile", row.Name).WithNext("read it again, then remove it")
		}
		if _, err := endSessions(tx, id, ""); err != nil {
			return err
		}
		if err := dropLinks(tx, func(l *linkRow) bool { return l.User == id }); err != nil {
			return err
		}
		if row.External != "" {
			if err := tableSubjects.Delete(tx, row.External); err != nil {
				return err
			}
		}
		if err := tableNames.Delete(tx, row.Name); err != nil {
			return err
		}
		if err := tableUsers.Delete(tx, id); err != nil {
			return err
		}
		return someAdmin(tx, row.rules())
	})
	if err == nil {
		s.live.end("user/"+id, unauthorized("this user was removed"))
	}
	return err
}

// rules reports whether a user can log in and make admins.
func (r *userRow) rules() bool {
	return !r.Disabled && r.Roles[AllProjects] == RoleAdmin && (r.Hash != "" || r.External != "")
}

// someAdmin keeps the last admin, when one was changed or removed: without one nobody could make another.
func someAdmin(tx store.Reader, was bool) error {
	if !was {
		return nil
	}
	found := false
	err := tableUsers.Scan(tx, "", "", func(_ string, row *userRow) error {
		if row.rules() {
			found = true
			return store.ErrStop
		}
		return nil
	})
	if err != nil || found {
		return err
	}
	return wire.NewProblem(409, wire.CodeConflict, "this is the last admin of all projects who can log in").WithNext("make another one first")
}

// setPassword gives a user another password and ends his sessions, but for the one named keep. inside has the last word, in the
// transaction that changes the row.
func (s *Service) setPassword(ctx context.Context, id, password, keep string, inside func(tx store.Writer, row *userRow) error) (*User, error) {
	var name string
	if err := s.db.View(ctx, func(tx store.Reader) error {
		row, err := user(tx, id)
		if err == nil {
			name = row.Name
		}
		return err
	}); err != nil {
		return nil, err
	}
	if err := checkPassword(name, password); err != nil {
		return nil, err
	}
	hash, err := s.hasher.make(ctx, normalPassword(password), s.hash)
	if err != nil {
		return nil, err
	}
	var row *userRow
	var ended []string
	err = s.db.Update(ctx, func(tx store.Writer) (err error) {
		if row, err = user(tx, id); err != nil {
			return err
		}
		if inside != nil {
			if err := inside(tx, row); err != nil {
				return err
			}
		}
		row.Hash, row.Revision, row.Changed = hash, row.Revision+1, s.clock.Now()
		if ended, err = endSessions(tx, id, keep); err != nil {
			return err
		}
		if err := dropLinks(tx, func(l *linkRow) bool { return l.User == id }); err != nil {
			return err
		}
		return tableUsers.Put(tx, id, row)
	})
	if err != nil {
		return nil, fmt.Errorf("set password: %w", err)
	}
	for _, session := range ended {
		s.live.end("session/"+session, unauthorized("the password was changed").WithNext("log in again"))
	}
	return row.shown(), nil
}

// ChangePassword gives the user of a session another password, if he knows the one that he has. His other sessions end.
func (s *Service) ChangePassword(ctx context.Context, p *Principal, old, password, address string) (*User, error) {
	if p.Kind != KindUser {
		return nil, forbidden("a password is changed by who is logged in with one, not by a token")
	}
	was, err := s.knows(ctx, p.User, old, address)
	if err != nil {
		return nil, err
	}
	return s.setPassword(ctx, p.User, password, p.ID, func(_ store.Writer, row *userRow) error {
		if row.Hash != was {
			return wire.NewProblem(409, wire.CodeConflict, "the password was changed meanwhile").WithNext("log in again")
		}
		return nil
	})
}
