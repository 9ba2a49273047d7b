package accounts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/internal/opaque"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Kinds of one-time links.
const (
	LinkFirst    = "first-admin" // makes the first user
	LinkPassword = "password"    // sets a user's password: an invitation, or a way back for who forgot it
)

// LinkValid is how long a one-time link is good for.
const LinkValid = 24 * time.Hour

// WelcomePath is the page that uses a link. The link's text follows after a #, so that it is in no server's log.
const WelcomePath = "/welcome"

// linkPrefix begins every link's secret, so that secret scanners know one.
const linkPrefix = "oml_"

// Link is a one-time link.
type Link struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	User    string    `json:"user,omitempty"` // its id
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

type linkRow struct {
	Link
	Secret []byte `json:"secret"` // SHA-256
}

// FirstLink makes the link with which the first admin is made, and makes older ones worthless; ok is false when there are users. The
// text holds the secret and is kept nowhere.
func (s *Service) FirstLink(ctx context.Context) (text string, l *Link, ok bool, err error) {
	err = s.db.Update(ctx, func(tx store.Writer) error {
		none, err := nobody(tx)
		if err != nil || !none {
			return err
		}
		ok = true
		text, l, err = s.addLink(tx, LinkFirst, "")
		return err
	})
	if err != nil {
		return "", nil, false, fmt.Errorf("make first admin's link: %w", err)
	}
	return text, l, ok, nil
}

func nobody(tx store.Reader) (none bool, err error) {
	none = true
	err = tableUsers.Scan(tx, "", "", func(string, *userRow) error { none = false; return store.ErrStop })
	return none, err
}

// NewLink makes a link with which a user sets his password, and makes older ones of his worthless.
func (s *Service) NewLink(ctx context.Context, id string) (text string, l *Link, err error) {
	err = s.db.Update(ctx, func(tx store.Writer) error {
		if _, err := user(tx, id); err != nil {
			return err
		}
		text, l, err = s.addLink(tx, LinkPassword, id)
		return err
	})
	return text, l, err
}

// addLink replaces the links of that kind for the user, and drops what has expired.
func (s *Service) addLink(tx store.Writer, kind, id string) (string, *Link, error) {
	now := s.clock.Now()
	if err := dropLinks(tx, func(l *linkRow) bool { return now.After(l.Expires) || l.Kind == kind && l.User == id }); err != nil {
		return "", nil, err
	}
	row := &linkRow{Link: Link{ID: opaque.Hex(8), Kind: kind, User: id, Created: now, Expires: now.Add(LinkValid)}}
	text := linkPrefix + row.ID + "_" + opaque.Hex(20)
	row.Secret = opaque.Hash(text)
	return text, &row.Link, tableLinks.Put(tx, row.ID, row)
}

func dropLinks(tx store.Writer, if_ func(*linkRow) bool) error {
	var gone []string
	if err := tableLinks.Scan(tx, "", "", func(id string, l *linkRow) error {
		if if_(l) {
			gone = append(gone, id)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, id := range gone {
		if err := tableLinks.Delete(tx, id); err != nil {
			return err
		}
	}
	return nil
}

// findLink finds whose link a text is. One that is unknown, used, replaced or expired looks the same.
func (s *Service) findLink(tx store.Reader, text string) (*linkRow, error) {
	worthless := wire.NewProblem(401, wire.CodeTokenUsed, "this link is not good any more: it works once, for %d hours, and until a newer one is made", int(LinkValid.Hours())).
		WithNext("ask an admin for a new one; while there are no users, start the master again")
	rest, ok := strings.CutPrefix(text, linkPrefix)
	id, _, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 || len(text) > 200 {
		return nil, worthless
	}
	l, err := tableLinks.Get(tx, id)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && (!opaque.Same(l.Secret, opaque.Hash(text)) || s.clock.Now().After(l.Expires)):
		return nil, worthless
	case err != nil:
		return nil, err
	}
	return l, nil
}

// Link says what a link is good for, without using it, and the name of its user.
func (s *Service) Link(ctx context.Context, text string) (l *Link, name string, err error) {
	err = s.db.View(ctx, func(tx store.Reader) error {
		row, err := s.findLink(tx, text)
		if err != nil {
			return err
		}
		l = &row.Link
		if row.User == "" {
			return nil
		}
		u, err := user(tx, row.User)
		if err == nil {
			name = u.Name
		}
		return err
	})
	return l, name, err
}

// UseLink spends a link: the first admin is made, with a name and a password, or a user's password is set and his sessions end. When two
// spend it at once, one is told that it is not good any more.
func (s *Service) UseLink(ctx context.Context, text, name, password string) (*User, error) {
	l, _, err := s.Link(ctx, text)
	if err != nil {
		return nil, err
	}
	if l.Kind == LinkPassword {
		return s.setPassword(ctx, l.User, password, "", func(tx store.Writer, _ *userRow) error {
			_, err := s.findLink(tx, text)
			return err
		})
	}
	if err := checkPassword(name, password); err != nil {
		return nil, err
	}
	hash, err := s.hasher.make(ctx, normalPassword(password), s.hash)
	if err != nil {
		return nil, err
	}
	var row *userRow
	err = s.db.Update(ctx, func(tx store.Writer) (err error) {
		if l, err := s.findLink(tx, text); err != nil {
			return err
		} else if err := tableLinks.Delete(tx, l.ID); err != nil {
			return err
		}
		if none, err := nobody(tx); err != nil {
			return err
		} else if !none {
			return wire.NewProblem(409, wire.CodeConflict, "there are users already").WithNext("ask an admin to make you one")
		}
		if row, err = s.addUser(tx, name, "", map[string]string{AllProjects: RoleAdmin}); err != nil {
			return err
		}
		row.Hash = hash
		return tableUsers.Put(tx, row.ID, row)
	})
	if err != nil {
		return nil, err
	}
	return row.shown(), nil
}
