// Package accounts knows people: users and their passwords, the sessions of browsers, API tokens, and which role each has in which
// project. DESIGN.md says why it is as it is.
//
// Invariants. Every secret is stored as a hash only: passwords as argon2id, all others, which are random, as SHA-256. There is one way
// in for each sort of credential (Bearer, Session), and both give a Principal, which is all that the rest of the master asks of. Whoever is
// removed, disabled or given another password is refused at the next request and torn out of the one that is under way (Admit). The
// last admin of all projects who can log in is neither removed nor weakened. A Service may be used by any number of goroutines.
package accounts

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/rows"
	"github.com/openmigrate/openmigrate/wire"
)

// Tables of this package.
var (
	tableUsers    = rows.Table[userRow]{Name: "users"}           // id → user
	tableNames    = rows.Table[string]{Name: "user_names"}       // name → id
	tableSubjects = rows.Table[string]{Name: "user_subjects"}    // hash of an OpenID Connect issuer and subject → id
	tableSessions = rows.Table[sessionRow]{Name: "web_sessions"} // user / session → session
	tableLinks    = rows.Table[linkRow]{Name: "login_links"}     // id → one-time link
	tableTokens   = rows.Table[Token]{Name: "api_tokens"}        // id → API token
	tableSecrets  = rows.Table[[]byte]{Name: "account_secrets"}  // name → key of this package
)

// Options change a Service. The zero value, and nil, are what a master uses.
type Options struct {
	Hash    HashParams    // how new passwords are hashed; zero: see defaultHash
	Session time.Duration // how long a session lasts at most; 0: DefaultSession
	Idle    time.Duration // how long one lasts that is not used; 0: DefaultIdle
}

// Service knows people.
type Service struct {
	db     store.Store
	clock  clock.Clock
	hash   HashParams
	hasher hasher
	limits limits
	life   time.Duration
	idle   time.Duration
	device []byte // key of device cookies
	live   live
}

// Open prepares the tables. o may be nil.
func Open(ctx context.Context, db store.Store, clk clock.Clock, o *Options) (*Service, error) {
	if o == nil {
		o = &Options{}
	}
	s := &Service{db: db, clock: clk, hash: o.Hash, hasher: newHasher(), limits: newLimits(), life: o.Session, idle: o.Idle, live: newLive()}
	if s.hash == (HashParams{}) {
		s.hash = defaultHash
	}
	if s.life <= 0 {
		s.life = DefaultSession
	}
	if s.idle <= 0 {
		s.idle = DefaultIdle
	}
	const name = "device"
	err := db.Update(ctx, func(tx store.Writer) error {
		key, err := tableSecrets.Get(tx, name)
		if errors.Is(err, store.ErrNotFound) {
			k := make([]byte, 32)
			_, _ = rand.Read(k) // never fails since Go 1.24
			s.device = k
			return tableSecrets.Put(tx, name, &k)
		}
		if err != nil {
			return err
		}
		s.device = *key
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open accounts: %w", err)
	}
	return s, nil
}

// cut shortens a text that somebody else chose to n bytes of valid UTF-8.
func cut(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "") }

func bad(field, format string, args ...any) error {
	p := wire.NewProblem(400, wire.CodeBadRequest, format, args...)
	p.Field = field
	return p
}

func notFound(what, id string) error {
	return wire.NewProblem(404, wire.CodeNotFound, "there is no %s %.64q", what, id)
}
