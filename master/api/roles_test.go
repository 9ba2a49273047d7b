package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/webhook"
	"github.com/openmigrate/openmigrate/wire"
)

// mayCall says, from an operation's method and path alone, who may call it: what docs promise, told once more.
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
	case path == wire.PathEnroll, path == wire.PathCallHome, path == wire.PathLogin, strings.HasPrefix(path, wire.PathLink):
		return []string{"nobody", "agent", "node", "forged", viewer, operator, admin, "stranger", "master"}
	case has("/users", "/audit-all"):
		return []string{"master"}
	case path == wire.PathLogout, has("/me/"):
		return []string{viewer, operator, admin, "stranger", "master"}
	case strings.HasPrefix(path, "/jobs/"):
		return []string{"node", operator, admin, "stranger", "master"}
	case has("token", "/audit", "/webhooks", "recovery-key", "/revoke", "/unfreeze"), method == "POST" && has("/staging", "/providers/", "/operations"), method == "DELETE" && has("/orphans"):
		return []string{admin, "stranger", "master"}
	case method == "GET" && !has("/files", "/download"):
		return []string{viewer, operator, admin, "stranger", "master"}
	default:
		return []string{operator, admin, "stranger", "master"}
	}
}

// TestEveryOperationAsEverybody walks every operation of the OpenAPI document and every route of agents and nodes as everybody there is. A stranger is the
// admin of another project: he gets in, and finds nothing that is not his.
func TestEveryOperationAsEverybody(t *testing.T) {
	w := newWorld(t)
	machine := w.env.NewAgent("web-1")
	point, _ := machine.Replicate(catalogDisk())
	admin := w.admin()
	job, err := admin.CreateJob(t.Context(), wire.JobRequest{Kind: wire.JobVerify, Restpoint: point})
	if err != nil {
		t.Fatal(err)
	}
	launch, err := admin.StartLaunch(t.Context(), wire.LaunchRequest{Kind: wire.LaunchTest, Machine: machine.Machine.ID})
	if err != nil {
		t.Fatal(err)
	}
	token, err := admin.CreateToken(t.Context(), wire.TokenRequest{Name: "x", Role: accounts.RoleViewer})
	if err != nil {
		t.Fatal(err)
	}
	enrol, err := admin.CreateEnrolToken(t.Context(), wire.EnrolTokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := w.env.Catalog.Sessions(t.Context(), machine.Machine.ID)
	if err != nil || len(sessions) == 0 {
		t.Fatal(sessions, err)
	}
	if _, err := admin.RunStaging(t.Context(), "check", nil); err != nil {
		t.Fatal(err)
	}
	hook, _, err := w.webhooks.Create(t.Context(), "default", webhook.Spec{URL: "https://hooks.example.com/x", Types: []string{"*"}, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	agent, node := w.enrol(ca.KindAgent, true), w.enrol(ca.KindNode, true)
	real := map[string]string{"machine": machine.Machine.ID, "restpoint": point, "job": job.ID, "launch": launch.ID, "session": sessions[0].ID,
		"node": node.id, "provider": "here", "project": "default", "disk": "0", "sync": "s", "action": "check",
		"user": "user-0", "webhook": hook.ID, "sequence": "1", "operation": w.handler.s.runs.list("default")[0].ID}

	everybody := []*actor{
		{name: "nobody", Client: w.client(wire.ClientOptions{})}, agent, node,
		w.person(accounts.RoleViewer), w.person(accounts.RoleOperator), w.person(accounts.RoleAdmin), w.stranger(), w.forged(agent.id), w.master(),
	}
	type asked struct {
		method, path string
		query        string
		public       bool
		owned        bool // names something of the default project
	}
	var all []asked
	for _, rt := range routes() {
		all = append(all, asked{method: rt.method, path: rt.path})
	}
	for path, item := range openAPI(t).Paths {
		for method, o := range operationsOf(item) {
			a := asked{method: method, path: path, public: true}
			a.owned = strings.Contains(path, "{") && !strings.Contains(path, "{provider}") && !strings.Contains(path, "{action}") && !strings.HasPrefix(path, wire.PathUsers)
			for _, p := range o.Parameters {
				if p.In == "query" && p.Required {
					a.query = "?" + p.Name + "=" + point
				}
			}
			all = append(all, a)
		}
	}
	if len(all) < len(access) {
		t.Fatalf("%d operations, %d in the table", len(all), len(access))
	}
	pairs := 0
	for _, a := range all {
		allowed := mayCall(a.method, a.path)
		for _, who := range everybody {
			pairs++
			path := a.path
			if a.public {
				path = fill(path, real, map[string]string{wire.PathToken: token.ID, wire.PathEnrolToken: enrol.ID})
			} else if n := strings.Count(path, "{"); n > 0 {
				path = wire.Path(path, []string{"x", "y"}[:n]...)
			}
			if a.method == "DELETE" && !slices.Contains([]string{"nobody", "forged"}, who.name) && slices.Contains(allowed, who.name) && who.name != "stranger" {
				path = strings.NewReplacer(machine.Machine.ID, "gone", point, "gone", token.ID, "gone", enrol.ID, "gone", hook.ID, "gone").Replace(path) // so that there is something for whoever comes next
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			if a.path == wire.PathEvents {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
			}
			var status int
			var err error
			var body any
			if a.public && (a.method == "POST" || a.method == "PUT" || a.method == "PATCH") {
				body = map[string]any{}
			}
			status, err = who.Do(ctx, a.method, path+a.query, body, nil)
			cancel()
			if a.path == wire.PathEvents && errors.Is(err, context.DeadlineExceeded) {
				status = http.StatusOK // it listened
			}
			if p := (*wire.Problem)(nil); errors.As(err, &p) {
				status = p.Status
			}
			refused := status == http.StatusUnauthorized || status == http.StatusForbidden
			if a.method == "POST" && slices.Contains([]string{wire.PathEnroll, wire.PathCallHome, wire.PathLogin, wire.PathLink, wire.PathLinkUse}, a.path) {
				refused = !wire.HasCode(err, wire.CodeBadRequest) // the body is empty: whoever asks got as far as that
			}
			if a.path == wire.PathPassword && status == http.StatusForbidden {
				refused = !strings.Contains(err.Error(), "a token changes no password")
			}
			should := slices.Contains(allowed, who.name)
			switch {
			case should && refused:
				t.Errorf("%s %s: %s is refused: %v", a.method, a.path, who.name, err)
			case !should && !refused:
				t.Errorf("%s %s: %s gets in: status %d, %v", a.method, a.path, who.name, status, err)
			case status >= 500 && status != http.StatusNotImplemented && !wire.HasCode(err, wire.CodeStaging) || status == 0:
				t.Errorf("%s %s: %s gets %d, %v", a.method, a.path, who.name, status, err)
			case who.name == "stranger" && a.owned && status != http.StatusNotFound && !wire.HasCode(err, wire.CodeBadRequest):
				t.Errorf("%s %s: an admin of another project gets %d, %v", a.method, path, status, err)
			}
		}
	}
	t.Logf("%d operations, %d pairs", len(all), pairs)
	// Whatever the stranger did: what is the default project's is as it was.
	for what, err := range map[string]error{"machine": second(admin.Machine(t.Context(), machine.Machine.ID)), "restpoint": second(admin.Restpoint(t.Context(), point)),
		"job": second(admin.Job(t.Context(), job.ID)), "launch": second(admin.Launch(t.Context(), launch.ID)), "node": second(admin.Node(t.Context(), node.id)),
		"webhook": second(w.webhooks.Get(t.Context(), "default", hook.ID)), "token": second(w.accounts.Token(t.Context(), token.ID)), "enrolment token": second(w.registry.EnrolToken(t.Context(), "default", enrol.ID))} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// fill puts ids into a path.
func fill(path string, values, own map[string]string) string {
	for full, id := range own {
		if path == full {
			return wire.Path(path, id)
		}
	}
	for strings.Contains(path, "{") {
		start, end := strings.IndexByte(path, '{'), strings.IndexByte(path, '}')
		path = path[:start] + values[path[start+1:end]] + path[end+1:]
	}
	return path
}

// stranger is the admin of another project.
func (w *world) stranger() *actor {
	w.t.Helper()
	_, text, err := w.accounts.NewToken(w.t.Context(), nil, accounts.Token{Project: "other", Name: "stranger", Role: accounts.RoleAdmin}, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return &actor{name: "stranger", token: text, Client: w.client(wire.ClientOptions{Token: text})}
}

// master is an admin of all projects.
func (w *world) master() *actor {
	w.t.Helper()
	_, text, err := w.accounts.NewToken(w.t.Context(), nil, accounts.Token{Project: accounts.AllProjects, Name: "master", Role: accounts.RoleAdmin}, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return &actor{name: "master", token: text, Client: w.client(wire.ClientOptions{Token: text})}
}

// forged shows a certificate of another CA for an agent's identity.
func (w *world) forged(id string) *actor {
	w.t.Helper()
	a := w.actor(ca.KindAgent, "forged", nil)
	other, err := ca.Open(w.t.TempDir(), w.env.Clock)
	if err != nil {
		w.t.Fatal(err)
	}
	key, csr := newKey(w.t)
	chain, _, err := other.Sign(csr, ca.Identity{Kind: ca.KindAgent, Project: "default", ID: id})
	if err != nil {
		w.t.Fatal(err)
	}
	a.name = "forged"
	a.cert.Store(certificate(chain, key))
	return a
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
