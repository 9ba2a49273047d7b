// Package identity decides which machines may speak to the master: enrolment tokens, the certificates of agents and nodes, and the
// deny-list. People are known by master/accounts.
//
// Invariants. Secrets are stored as hashes only. One use of an enrolment token gives one identity, to one key, whoever dies when.
// Whoever is revoked is refused at the next request and torn out of the one that is under way: Admit hands out a context
// that ends with the identity. A Registry may be used by any number of goroutines.
package identity

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Tables of this package.
const (
	tableEnrol  = "enrol_tokens" // id → EnrolToken
	tableNodes  = "nodes"        // id → Node
	tableDenied = "denied"       // kind/id or serial/… → reason
	tableIssued = "certificates" // kind/id → []Issued, the newest last
)

// Machines is what enrolment needs of the catalog.
type Machines interface {
	// Enrol makes a machine and returns its id and the name that it got.
	Enrol(ctx context.Context, project string, r *wire.EnrollRequest) (id, name string, err error)
}

// Registry knows identities.
type Registry struct {
	db        store.Store
	ca        *ca.CA
	clock     clock.Clock
	machines  Machines
	masterKey ed25519.PublicKey

	enrolling sync.Mutex // one enrolment at a time: who asks again while the first try is under way must find its grant

	mu     sync.Mutex
	denied map[string]string                          // guarded by mu; mirrors tableDenied
	live   map[string]map[int]context.CancelCauseFunc // by kind/id and by serial/…; guarded by mu
	next   int                                        // guarded by mu
	seen   map[string]time.Time                       // of nodes, by id; guarded by mu
}

// Open loads the deny-list.
func Open(ctx context.Context, db store.Store, authority *ca.CA, clk clock.Clock, machines Machines, masterKey ed25519.PublicKey) (*Registry, error) {
	r := &Registry{db: db, ca: authority, clock: clk, machines: machines, masterKey: masterKey,
		denied: map[string]string{}, live: map[string]map[int]context.CancelCauseFunc{}, seen: map[string]time.Time{}}
	err := db.View(ctx, func(tx store.Reader) error {
		return tx.Scan(tableDenied, nil, nil, func(k, v []byte) error {
			r.denied[string(k)] = string(v)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("load deny-list: %w", err)
	}
	return r, nil
}

// MasterKey is the public key that countersigns restpoints.
func (r *Registry) MasterKey() ed25519.PublicKey { return r.masterKey }

// get reads a row: CodeNotFound when there is none.
func get(tx store.Reader, table, id string, v any) error {
	b, err := tx.Get(table, []byte(id))
	if errors.Is(err, store.ErrNotFound) {
		return missing(id)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s %s: %w", table, id, err)
	}
	return nil
}

func missing(id string) *wire.Problem {
	return wire.NewProblem(404, wire.CodeNotFound, "there is no %.64q", id)
}

func put(tx store.Writer, table, id string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(table, []byte(id), b)
}

func scan[T any](ctx context.Context, db store.Store, table string, fn func(*T)) error {
	return db.View(ctx, func(tx store.Reader) error {
		return tx.Scan(table, nil, nil, func(k, b []byte) error {
			v := new(T)
			if err := json.Unmarshal(b, v); err != nil {
				return fmt.Errorf("read %s %s: %w", table, k, err)
			}
			fn(v)
			return nil
		})
	})
}
