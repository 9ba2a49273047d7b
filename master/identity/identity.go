// Package identity decides who may speak to the master: enrolment tokens, the certificates of agents and nodes, the
// deny-list, and people's API tokens.
//
// Invariants. Secrets are stored as hashes only. An enrolment token is spent in the transaction that makes the identity.
// Whoever is revoked is refused at the next request and torn out of the one that is under way: Admit hands out a context
// that ends with the identity. A Registry may be used by any number of goroutines.
package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
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
	tableTokens = "api_tokens"   // id → Token
	tableNodes  = "nodes"        // id → Node
	tableDenied = "denied"       // kind/id or serial/… → reason
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

	mu     sync.Mutex
	denied map[string]string                          // guarded by mu; mirrors tableDenied
	live   map[string]map[int]context.CancelCauseFunc // by kind/id; guarded by mu
	next   int                                        // guarded by mu
}

// Open loads the deny-list.
func Open(ctx context.Context, db store.Store, authority *ca.CA, clk clock.Clock, machines Machines, masterKey ed25519.PublicKey) (*Registry, error) {
	r := &Registry{db: db, ca: authority, clock: clk, machines: machines, masterKey: masterKey,
		denied: map[string]string{}, live: map[string]map[int]context.CancelCauseFunc{}}
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

// Caller is who a request comes from: an agent, a node, or a person.
type Caller struct {
	ca.Identity
	Token *Token // set for people
}

// Admit takes a certificate's identity into a request: CodeRevoked, or a context that ends when the identity is revoked.
// Call done at the end of the request.
func (r *Registry) Admit(ctx context.Context, who ca.Identity) (admitted context.Context, done func(), err error) {
	key := who.Kind + "/" + who.ID
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range []string{key, "serial/" + who.Serial} {
		if reason, denied := r.denied[k]; denied {
			return nil, nil, revoked(reason)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r.next++
	n := r.next
	if r.live[key] == nil {
		r.live[key] = map[int]context.CancelCauseFunc{}
	}
	r.live[key][n] = cancel
	return ctx, func() {
		r.mu.Lock()
		delete(r.live[key], n)
		if len(r.live[key]) == 0 {
			delete(r.live, key)
		}
		r.mu.Unlock()
		cancel(nil)
	}, nil
}

func revoked(reason string) error {
	return wire.NewProblem(403, wire.CodeRevoked, "this identity was revoked: %s", reason).WithNext("enrol again with a new token")
}

// Revoke shuts an identity out for ever, at once.
func (r *Registry) Revoke(ctx context.Context, kind, id, reason string) error {
	return r.deny(ctx, kind+"/"+id, reason)
}

// RevokeSerial shuts one certificate out.
func (r *Registry) RevokeSerial(ctx context.Context, serial, reason string) error {
	return r.deny(ctx, "serial/"+serial, reason)
}

func (r *Registry) deny(ctx context.Context, key, reason string) error {
	if err := r.db.Update(ctx, func(tx store.Writer) error { return tx.Put(tableDenied, []byte(key), []byte(reason)) }); err != nil {
		return fmt.Errorf("revoke %s: %w", key, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.denied[key] = reason
	for _, cancel := range r.live[key] {
		cancel(revoked(reason))
	}
	return nil
}

// Renew signs a new key for an identity whose certificate was verified.
func (r *Registry) Renew(_ context.Context, who ca.Identity, csr []byte) (*wire.RenewResponse, error) {
	chain, _, err := r.ca.Sign(csr, who)
	if errors.Is(err, ca.ErrRequest) {
		return nil, wire.NewProblem(400, wire.CodeBadRequest, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	return &wire.RenewResponse{Certificate: chain}, nil
}

// Node is a hydrator.
type Node struct {
	ID         string    `json:"id"`
	Project    string    `json:"project"`
	Name       string    `json:"name"`
	Created    time.Time `json:"created"`
	LastSeen   time.Time `json:"last_seen"`
	Version    string    `json:"version"`
	Generation uint64    `json:"generation"`
	Frozen     string    `json:"frozen,omitempty"`
}

// NodeHello takes the first call of a node's process: CodeFrozen when its generation does not go up.
func (r *Registry) NodeHello(ctx context.Context, id string, h *wire.Hello) error {
	var refused error
	err := r.db.Update(ctx, func(tx store.Writer) error {
		var n Node
		if err := get(tx, tableNodes, id, &n); err != nil {
			return err
		}
		if n.Frozen == "" && h.Generation <= n.Generation {
			n.Frozen = fmt.Sprintf("two processes use this identity: generation %d was shown after %d", h.Generation, n.Generation)
		}
		if n.Frozen != "" {
			refused = wire.NewProblem(403, wire.CodeFrozen, "node %s is frozen: %s", n.Name, n.Frozen).WithNext("stop the copy, then enrol the node again")
			return put(tx, tableNodes, id, &n)
		}
		n.Generation, n.Version, n.LastSeen = h.Generation, h.Version, r.clock.Now()
		return put(tx, tableNodes, id, &n)
	})
	if err != nil {
		return err
	}
	return refused
}

// CheckNode is asked on every request of a node.
func (r *Registry) CheckNode(ctx context.Context, id string, generation uint64) error {
	var n Node
	if err := r.db.View(ctx, func(tx store.Reader) error { return get(tx, tableNodes, id, &n) }); err != nil {
		return err
	}
	if n.Frozen != "" {
		return wire.NewProblem(403, wire.CodeFrozen, "node %s is frozen: %s", n.Name, n.Frozen)
	}
	if n.Generation != generation {
		return wire.NewProblem(409, wire.CodeStale, "generation %d is not this node's current one", generation).WithNext("start the node again")
	}
	return nil
}

// Nodes lists the nodes of a project.
func (r *Registry) Nodes(ctx context.Context, project string) ([]Node, error) {
	nodes := []Node{}
	err := scan(ctx, r.db, tableNodes, func(n *Node) {
		if n.Project == project {
			nodes = append(nodes, *n)
		}
	})
	return nodes, err
}

// MasterKey is the public key that countersigns restpoints.
func (r *Registry) MasterKey() ed25519.PublicKey { return r.masterKey }

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)
}

func hashSecret(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

func sameHash(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// get reads a row: CodeNotFound when there is none.
func get(tx store.Reader, table, id string, v any) error {
	b, err := tx.Get(table, []byte(id))
	if errors.Is(err, store.ErrNotFound) {
		return wire.NewProblem(404, wire.CodeNotFound, "there is no %.64q", id)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s %s: %w", table, id, err)
	}
	return nil
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
