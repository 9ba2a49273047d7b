package api

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/wire"
)

// TestRevokeNode shuts one of two nodes out while it waits for work.
func TestRevokeNode(t *testing.T) {
	w := newWorld(t)
	admin := w.admin()
	node, bystander := w.enrol(ca.KindNode, true), w.enrol(ca.KindNode, true)
	state := func(a *actor) wire.NodeInfo {
		t.Helper()
		n, err := admin.Node(t.Context(), a.id)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := state(node); n.ID != node.id || n.State != identity.NodeRunning || n.Generation != 1 || n.NextStep != "none" {
		t.Errorf("a node that works is %+v", n)
	}

	arrived := make(chan struct{}, 1)
	w.arrived.Store(ptr(func(r *http.Request) {
		if r.URL.Path == wire.PathNodeLease {
			arrived <- struct{}{}
		}
	}))
	waited := make(chan error, 1)
	go func() {
		_, err := node.LeaseJob(context.WithoutCancel(t.Context()), &wire.LeaseRequest{Kinds: []string{wire.JobVerify}, Wait: wire.Duration(wire.MaxWait)})
		waited <- err
	}()
	<-arrived
	w.arrived.Store(nil)
	if err := admin.RevokeNode(t.Context(), node.id); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-waited:
		wantCode(t, "the poll under way", err, wire.CodeRevoked)
	case <-time.After(20 * time.Second):
		t.Fatal("the poll under way goes on")
	}
	_, err := node.LeaseJob(t.Context(), &wire.LeaseRequest{Kinds: []string{wire.JobVerify}})
	wantCode(t, "a revoked node", err, wire.CodeRevoked)
	if _, err := bystander.LeaseJob(t.Context(), &wire.LeaseRequest{Kinds: []string{wire.JobVerify}}); err != nil {
		t.Errorf("the other node: %v", err)
	}
	if n := state(node); n.State != identity.NodeRevoked || n.Revoked == "" {
		t.Errorf("a revoked node is %+v", n)
	}
	list, err := admin.Nodes(t.Context())
	if err != nil || len(list) != 2 || list[0].State == list[1].State {
		t.Errorf("nodes %+v, %v", list, err)
	}
	if err := admin.RevokeNode(t.Context(), node.id); err != nil {
		t.Errorf("again: %v", err)
	}
	wantCode(t, "an unknown node", admin.RevokeNode(t.Context(), "node-0"), wire.CodeNotFound)
	_, err = admin.Node(t.Context(), "node-0")
	wantCode(t, "an unknown node", err, wire.CodeNotFound)
}
