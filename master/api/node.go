package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/wire"
)

type NodeRef struct {
	Node string `path:"node" maxLength:"256"`
}

type nodeOut struct {
	ETag string `header:"ETag"`
	Body wire.NodeInfo
}

func (s *server) registerNodes(api huma.API) {
	add(s, api, op{id: "list-nodes", method: "GET", path: wire.PathNodes, tag: "nodes", summary: "List nodes"}, s.listNodes)
	add(s, api, op{id: "get-node", method: "GET", path: wire.PathNode, tag: "nodes", summary: "Show a node"}, s.getNode)
	add(s, api, op{id: "revoke-node", method: "POST", path: wire.PathNodeRevoke, tag: "nodes", summary: "Shut a node out for ever", text: "Others take over its jobs."}, s.revokeNode)
}

type listNodesIn struct {
	PageParams
	State []string `query:"state" maxItems:"8" doc:"Any of these: running, away, frozen, revoked."`
}

func (s *server) listNodes(ctx context.Context, in *listNodesIn) (*pageOut[wire.NodeInfo], error) {
	nodes, err := s.Identity.Nodes(ctx, person(ctx).Project)
	if err != nil {
		return nil, err
	}
	out := make([]wire.NodeInfo, 0, len(nodes))
	for i := range nodes {
		if info := nodeInfo(&nodes[i]); oneOf(in.State, info.State) {
			out = append(out, info)
		}
	}
	return listed(out, &in.PageParams, "name", func(n *wire.NodeInfo) sortKey { return sortKey{Text: n.Name, ID: n.ID} })
}

func nodeRevision(n *identity.Node) string { return revision(n.Frozen, n.Revoked) }

func (s *server) getNode(ctx context.Context, in *NodeRef) (*nodeOut, error) {
	n, err := s.Identity.Node(ctx, person(ctx).Project, in.Node)
	if err != nil {
		return nil, err
	}
	return &nodeOut{ETag: etag(nodeRevision(n)), Body: nodeInfo(n)}, nil
}

type revokeNodeIn struct {
	NodeRef
	Match
}

func (s *server) revokeNode(ctx context.Context, in *revokeNodeIn) (*struct{}, error) {
	n, err := s.Identity.Node(ctx, person(ctx).Project, in.Node)
	if err != nil {
		return nil, err
	}
	if err := in.check(nodeRevision(n), false); err != nil {
		return nil, err
	}
	if err := s.Identity.RevokeNode(ctx, person(ctx).Project, n.ID, "an operator revoked it"); err != nil {
		return nil, err
	}
	s.changed(ctx, "node", n.ID, n.Name, map[string]any{"revoked": n.Revoked != ""}, map[string]any{"revoked": true})
	return nil, nil
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
