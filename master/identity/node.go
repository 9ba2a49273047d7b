package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Node is a hydrator.
type Node struct {
	ID          string    `json:"id"`
	Project     string    `json:"project"`
	Name        string    `json:"name"`
	Created     time.Time `json:"created"`
	LastSeen    time.Time `json:"last_seen"`
	Version     string    `json:"version"`
	Fingerprint string    `json:"fingerprint"` // of the host
	Generation  uint64    `json:"generation"`
	Frozen      string    `json:"frozen,omitempty"`
	Revoked     string    `json:"revoked,omitempty"` // why; never stored: the deny-list says it
}

// States of a node.
const (
	NodeRevoked = "revoked"
	NodeFrozen  = "frozen"
	NodeRunning = "running" // it spoke to the master not long ago
	NodeAway    = "away"
)

// nodePatience is after what silence a node is away: it misses two long polls.
const nodePatience = 2*wire.MaxWait + 30*time.Second

// State says how a node is at that time.
func (n *Node) State(now time.Time) string {
	switch {
	case n.Revoked != "":
		return NodeRevoked
	case n.Frozen != "":
		return NodeFrozen
	case now.Sub(n.LastSeen) > nodePatience:
		return NodeAway
	}
	return NodeRunning
}

// NodeHello takes the first call of a node's process: CodeFrozen when its generation does not go up, or it runs on a second host.
func (r *Registry) NodeHello(ctx context.Context, id string, h *wire.Hello) error {
	var refused error
	if len(h.Fingerprint) > wire.MaxNameLength || len(h.Version) > wire.MaxNameLength {
		return wire.NewProblem(400, wire.CodeBadRequest, "fingerprint and version have at most %d bytes", wire.MaxNameLength)
	}
	err := r.db.Update(ctx, func(tx store.Writer) error {
		refused = nil
		var n Node
		if err := get(tx, tableNodes, id, &n); err != nil {
			return err
		}
		switch {
		case n.Frozen != "":
		case h.Generation <= n.Generation:
			n.Frozen = fmt.Sprintf("two processes use this identity: generation %d was shown after %d", h.Generation, n.Generation)
		case n.Fingerprint != "" && n.Fingerprint != h.Fingerprint:
			n.Frozen = "two processes use this identity: it was shown by a second host"
		}
		if n.Frozen != "" {
			refused = wire.NewProblem(403, wire.CodeFrozen, "node %s is frozen: %s", n.Name, n.Frozen).WithNext("stop the copy, then enrol the node again")
			return put(tx, tableNodes, id, &n)
		}
		n.Generation, n.Fingerprint, n.Version, n.LastSeen = h.Generation, h.Fingerprint, h.Version, r.clock.Now()
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
	if n.Generation != generation || generation == 0 {
		return wire.NewProblem(409, wire.CodeStale, "generation %d is not this node's current one", generation).WithNext("start the node again")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[id] = r.clock.Now()
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
	for i := range nodes {
		r.complete(&nodes[i])
	}
	return nodes, err
}

// Node finds a node of a project: CodeNotFound.
func (r *Registry) Node(ctx context.Context, project, id string) (*Node, error) {
	n := new(Node)
	if err := r.db.View(ctx, func(tx store.Reader) error { return get(tx, tableNodes, id, n) }); err != nil {
		return nil, err
	}
	if n.Project != project {
		return nil, wire.NewProblem(404, wire.CodeNotFound, "there is no %.64q", id)
	}
	r.complete(n)
	return n, nil
}

// complete adds what is not in a node's row.
func (r *Registry) complete(n *Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := r.seen[n.ID]; at.After(n.LastSeen) {
		n.LastSeen = at
	}
	n.Revoked = r.denied[ca.KindNode+"/"+n.ID]
}

// RevokeNode shuts a node of a project out for ever, at once. What it holds goes to others when its leases end.
func (r *Registry) RevokeNode(ctx context.Context, project, id, reason string) error {
	if _, err := r.Node(ctx, project, id); err != nil {
		return err
	}
	return r.Revoke(ctx, ca.KindNode, id, reason)
}
