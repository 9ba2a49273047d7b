package accounts

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/internal/opaque"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// How long a browser stays logged in. NIST SP 800-63B-4, section 2.2.3: a day at most, and an hour without use.
const (
	DefaultSession = 24 * time.Hour
	DefaultIdle    = time.Hour
)

const (
	// touchEvery is how often the use of a session is written down.
	touchEvery = time.Minute
	// maxSessions of one user; the one that was used longest ago goes.
	maxSessions   = 32
	sessionPrefix = "oms_"
	maxAgent      = 200
)

// Session is a browser that is logged in.
type Session struct {
	ID      string    `json:"id"`
	User    string    `json:"user"` // its id
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"` // to the minute
	Expires time.Time `json:"expires"`
	Address string    `json:"address"` // that it was begun from
	Agent   string    `json:"agent"`   // what the browser calls itself
	Method  string    `json:"method"`  // password, oidc
}

type sessionRow struct {
	Session
	Secret []byte `json:"secret"` // SHA-256 of the cookie
}

// ended reports whether a session is over at a moment.
func (s *Service) ended(r *Session, now time.Time) bool {
	return !now.Before(r.Expires) || now.Sub(r.Used) >= s.idle
}

func sessionKey(user, id string) string { return user + "/" + id }

// addSession begins a session and returns the cookie's text.
func (s *Service) addSession(tx store.Writer, user, address, agent, method string) (*Session, string, error) {
	now := s.clock.Now()
	var rows []Session
	if err := tableSessions.Scan(tx, user+"/", "", func(_ string, r *sessionRow) error { rows = append(rows, r.Session); return nil }); err != nil {
		return nil, "", err
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Used.Before(rows[j].Used) })
	for i := range rows {
		if s.ended(&rows[i], now) || i <= len(rows)-maxSessions {
			if err := tableSessions.Delete(tx, sessionKey(user, rows[i].ID)); err != nil {
				return nil, "", err
			}
		}
	}
	row := &sessionRow{Session: Session{ID: opaque.Hex(8), User: user, Created: now, Used: now, Expires: now.Add(s.life),
		Address: cut(address, 64), Agent: cut(agent, maxAgent), Method: method}}
	text := sessionPrefix + strings.TrimPrefix(user, "user-") + "_" + row.ID + "_" + opaque.Hex(20)
	row.Secret = opaque.Hash(text)
	return &row.Session, text, tableSessions.Put(tx, sessionKey(user, row.ID), row)
}

// Session finds who a session cookie's text is: CodeUnauthorized. It counts as use of the session.
func (s *Service) Session(ctx context.Context, text string) (*Principal, error) {
	rest, ok := strings.CutPrefix(text, sessionPrefix)
	parts := strings.Split(rest, "_")
	if !ok || len(parts) != 3 || len(text) > 200 {
		return nil, loggedOut()
	}
	key := sessionKey("user-"+parts[0], parts[1])
	now := s.clock.Now()
	var p *Principal
	var touch bool
	err := s.db.View(ctx, func(tx store.Reader) error {
		row, err := tableSessions.Get(tx, key)
		if errors.Is(err, store.ErrNotFound) || err == nil && (!opaque.Same(row.Secret, opaque.Hash(text)) || s.ended(&row.Session, now)) {
			return loggedOut()
		}
		if err != nil {
			return err
		}
		touch = now.Sub(row.Used) >= touchEvery
		p, err = s.sessionPrincipal(tx, &row.Session)
		return err
	})
	if err != nil || !touch {
		return p, err
	}
	return p, s.touch(ctx, func(tx store.Writer) error {
		row, err := tableSessions.Get(tx, key)
		if errors.Is(err, store.ErrNotFound) {
			return loggedOut()
		}
		if err != nil || !row.Used.Before(now) {
			return err
		}
		row.Used = now
		return tableSessions.Put(tx, key, row)
	})
}

// touch writes down that credentials were used. A database that cannot grow is no reason to refuse them: who makes room needs them.
func (s *Service) touch(ctx context.Context, fn func(store.Writer) error) error {
	if err := s.db.Update(ctx, fn); err != nil && !errors.Is(err, store.ErrFull) {
		return err
	}
	return nil
}

func (s *Service) sessionPrincipal(tx store.Reader, r *Session) (*Principal, error) {
	u, err := user(tx, r.User)
	if wire.HasCode(err, wire.CodeNotFound) || err == nil && u.Disabled {
		return nil, loggedOut()
	}
	if err != nil {
		return nil, err
	}
	return &Principal{Kind: KindUser, ID: r.ID, User: u.ID, Name: u.Name, Expires: r.Expires, roles: u.Roles}, nil
}

func unauthorized(format string, args ...any) *wire.Problem {
	return wire.NewProblem(401, wire.CodeUnauthorized, format, args...)
}

func loggedOut() error {
	return unauthorized("you are not logged in, or not any more").WithNext("log in again")
}

// Sessions lists a user's sessions, the newest first.
func (s *Service) Sessions(ctx context.Context, id string) ([]Session, error) {
	list := []Session{}
	now := s.clock.Now()
	err := s.db.View(ctx, func(tx store.Reader) error {
		if _, err := user(tx, id); err != nil {
			return err
		}
		return tableSessions.Scan(tx, id+"/", "", func(_ string, r *sessionRow) error {
			if !s.ended(&r.Session, now) {
				list = append(list, r.Session)
			}
			return nil
		})
	})
	sort.Slice(list, func(i, j int) bool { return list[i].Created.After(list[j].Created) })
	return list, err
}

// EndSession ends a session of a user (logging out): CodeNotFound.
func (s *Service) EndSession(ctx context.Context, id, session string) error {
	err := s.db.Update(ctx, func(tx store.Writer) error {
		key := sessionKey(cut(id, 64), cut(session, 64))
		if _, err := tableSessions.Get(tx, key); errors.Is(err, store.ErrNotFound) {
			return notFound("session", session)
		} else if err != nil {
			return err
		}
		return tableSessions.Delete(tx, key)
	})
	if err == nil {
		s.live.end("session/"+session, loggedOut())
	}
	return err
}

// EndSessions ends all sessions of a user.
func (s *Service) EndSessions(ctx context.Context, id string) error {
	var ended []string
	err := s.db.Update(ctx, func(tx store.Writer) (err error) {
		ended, err = endSessions(tx, id, "")
		return err
	})
	if err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	for _, session := range ended {
		s.live.end("session/"+session, loggedOut())
	}
	return nil
}

// endSessions removes the sessions of a user but for one, and returns their ids.
func endSessions(tx store.Writer, user, keep string) (ended []string, err error) {
	if err := tableSessions.Scan(tx, user+"/", "", func(_ string, r *sessionRow) error {
		if r.ID != keep {
			ended = append(ended, r.ID)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for _, id := range ended {
		if err := tableSessions.Delete(tx, sessionKey(user, id)); err != nil {
			return nil, err
		}
	}
	return ended, nil
}
