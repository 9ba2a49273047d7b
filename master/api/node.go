package api

import (
	"net/http"
	"time"

	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/wire"
)

func (s *server) listNodes(c *call) error {
	nodes, err := s.Identity.Nodes(c.ctx, c.tok.Project)
	if err != nil {
		return err
	}
	out := make([]wire.NodeInfo, 0, len(nodes))
	for i := range nodes {
		out = append(out, nodeInfo(&nodes[i]))
	}
	return c.answer(http.StatusOK, out)
}

func (s *server) showNode(c *call) error {
	n, err := s.Identity.Node(c.ctx, c.tok.Project, c.r.PathValue("node"))
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, nodeInfo(n))
}

func (s *server) revokeNode(c *call) error {
	id := c.r.PathValue("node")
	if err := s.Identity.RevokeNode(c.ctx, c.tok.Project, id, "an operator revoked it"); err != nil {
		return err
	}
	s.audit(c, "revoked node", id)
	return c.done()
}

func nodeInfo(n *identity.Node) wire.NodeInfo {
	state := n.State(time.Now())
	next := map[string]string{
		identity.NodeRunning: "none",
		identity.NodeAway:    "see that it runs and reaches this master, or: nodes revoke " + n.ID,
		identity.NodeFrozen:  "stop the copy, then: nodes revoke " + n.ID + ", and enrol the node again with a new token",
		identity.NodeRevoked: "none; to use its host again, enrol it with a new token",
	}
	return wire.NodeInfo{ID: n.ID, Name: n.Name, State: state, NextStep: next[state], Created: n.Created, LastSeen: n.LastSeen,
		Version: n.Version, Fingerprint: n.Fingerprint, Generation: n.Generation, Frozen: n.Frozen, Revoked: n.Revoked}
}
