package identity

import (
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/wire"
)

func TestNodeState(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for want, n := range map[string]Node{
		NodeRunning: {LastSeen: now.Add(-nodePatience)},
		NodeAway:    {LastSeen: now.Add(-nodePatience - 1)},
		NodeFrozen:  {LastSeen: now, Frozen: "twice"},
		NodeRevoked: {LastSeen: now, Frozen: "twice", Revoked: "stolen"},
	} {
		if got := n.State(now); got != want {
			t.Errorf("%+v is %s, want %s", n, got, want)
		}
	}
}

// TestRevokedNodes: one project does not reach another's nodes, and a revocation outlives the process.
func TestRevokedNodes(t *testing.T) {
	w := newWorld(t)
	out, err := w.r.Enroll(t.Context(), w.request(w.token(ca.KindNode, 1), ca.KindNode))
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, w.r.RevokeNode(t.Context(), "other", out.ID, "no"), wire.CodeNotFound)
	if n, err := w.r.Node(t.Context(), "default", out.ID); err != nil || n.Revoked != "" {
		t.Errorf("%+v, %v", n, err)
	}
	if err := w.r.RevokeNode(t.Context(), "default", out.ID, "stolen"); err != nil {
		t.Fatal(err)
	}
	w.restart()
	nodes, err := w.r.Nodes(t.Context(), "default")
	if err != nil || len(nodes) != 1 || nodes[0].Revoked != "stolen" {
		t.Errorf("%+v, %v", nodes, err)
	}
	_, _, err = w.r.Admit(t.Context(), ca.Identity{Kind: ca.KindNode, Project: "default", ID: out.ID, Serial: "1"})
	wantCode(t, err, wire.CodeRevoked)
}
