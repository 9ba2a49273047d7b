package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/wire"
)

// mayCall says, from a route's method and path alone, who may call it: what docs promise, told once more.
func mayCall(method, path string) []string {
	const viewer, operator, admin = accounts.RoleViewer, accounts.RoleOperator, accounts.RoleAdmin
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(path, p) {
				return true
			}
		}
		return false
	}
	switch {
	case strings.HasPrefix(path, "/agent/"):
		return []string{"agent"}
	case strings.HasPrefix(path, "/node/"):
		return []string{"node"}
	case path == wire.PathRenewExpired:
		return []string{"agent", "node"}
	case path == wire.PathEnroll, path == wire.PathCallHome:
		return []string{"nobody", "agent", "node", viewer, operator, admin}
	case strings.HasPrefix(path, "/jobs/"):
		return []string{"node", operator, admin}
	case has("token", "recovery-key", "/revoke", "/unfreeze"), method == "POST" && has("/staging", "/providers/"), method == "DELETE" && has("/orphans"):
		return []string{admin}
	case method == "GET":
		return []string{viewer, operator, admin}
	default:
		return []string{operator, admin}
	}
}

func TestEveryRouteAsEverybody(t *testing.T) {
	w := newWorld(t)
	everybody := []*actor{
		{name: "nobody", Client: w.client(wire.ClientOptions{})},
		w.enrol(ca.KindAgent, true), w.enrol(ca.KindNode, true),
		w.person(accounts.RoleViewer), w.person(accounts.RoleOperator), w.person(accounts.RoleAdmin),
	}
	forged := w.actor(ca.KindAgent, "forged", nil)
	other, err := ca.Open(t.TempDir(), w.env.Clock)
	if err != nil {
		t.Fatal(err)
	}
	key, csr := newKey(t)
	chain, _, err := other.Sign(csr, ca.Identity{Kind: ca.KindAgent, Project: "default", ID: everybody[1].id})
	if err != nil {
		t.Fatal(err)
	}
	forged.name = "forged"
	forged.cert.Store(certificate(chain, key))
	everybody = append(everybody, forged)

	for _, rt := range routes() {
		allowed := mayCall(rt.method, rt.path)
		stranger := rt.path == wire.PathEnroll || rt.path == wire.PathCallHome
		if stranger {
			allowed = append(allowed, "forged")
		}
		for _, a := range everybody {
			path := rt.path
			if strings.Contains(path, "{operation}") {
				path = wire.Path(path, "check")
			}
			if n := strings.Count(path, "{"); n > 0 {
				path = wire.Path(path, []string{"x", "y"}[:n]...)
			}
			status, err := a.Do(t.Context(), rt.method, path, nil, nil)
			refused := status == http.StatusUnauthorized || status == http.StatusForbidden
			if stranger {
				refused = !wire.HasCode(err, wire.CodeBadRequest) // the body is empty: whoever asks got as far as that
			}
			should := contains(allowed, a.name)
			switch {
			case should && refused:
				t.Errorf("%s %s: %s is refused: %v", rt.method, rt.path, a.name, err)
			case !should && !refused:
				t.Errorf("%s %s: %s gets in: status %d, %v", rt.method, rt.path, a.name, status, err)
			case status >= 500 || status == 0:
				t.Errorf("%s %s: %s gets %d, %v", rt.method, rt.path, a.name, status, err)
			}
		}
	}
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func TestAgentReachesOnlyItsOwnSession(t *testing.T) {
	w := newWorld(t)
	a, b := w.enrol(ca.KindAgent, true), w.enrol(ca.KindAgent, true)
	session, err := a.OpenSession(t.Context(), &wire.SessionRequest{Disks: []wire.SessionDisk{{ID: "d", Name: "sda", Size: 1 << 20, ChunkSize: 64 << 10}}})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if !wire.HasCode(err, wire.CodeNotFound) && !wire.HasCode(err, wire.CodeFenced) && !wire.HasCode(err, wire.CodeForbidden) {
			t.Errorf("%s: another machine gets %v", what, err)
		}
	}
	_, err = b.RenewSession(t.Context(), session.ID, &wire.Progress{})
	refused("renew", err)
	_, err = b.Announce(t.Context(), session.ID, []wire.PackAnnounce{})
	refused("announce", err)
	_, err = b.CommitSession(t.Context(), session.ID, []byte("manifest"))
	refused("commit", err)
	refused("abort", b.AbortSession(t.Context(), session.ID, &wire.Failure{Code: "x"}))
	if _, err := a.RenewSession(t.Context(), session.ID, &wire.Progress{}); err != nil {
		t.Errorf("its own machine: %v", err)
	}
}

func TestGenerations(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []string{ca.KindAgent, ca.KindNode} {
		a := w.enrol(kind, true)
		work := func() error {
			if kind == ca.KindAgent {
				return a.Report(t.Context(), &wire.Report{})
			}
			_, err := a.LeaseJob(t.Context(), &wire.LeaseRequest{Kinds: []string{wire.JobVerify}})
			return err
		}
		if err := work(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		a.generation.Store(2)
		wantCode(t, kind+" ahead of its hello", work(), wire.CodeStale)
		a.generation.Store(1)
		_, err := a.Hello(t.Context(), helloPath(kind), &wire.Hello{Generation: 1, Fingerprint: "f"})
		wantCode(t, kind+" seen twice", err, wire.CodeFrozen)
		wantCode(t, kind+" frozen", work(), wire.CodeFrozen)
		headless := w.client(wire.ClientOptions{Certificate: a.cert.Load})
		wantCode(t, kind+" without a generation", headless.Report(t.Context(), &wire.Report{}), map[string]string{
			ca.KindAgent: wire.CodeBadRequest, ca.KindNode: wire.CodeForbidden}[kind])
	}
}
