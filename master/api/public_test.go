package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// ask sends a request as a script would, and returns the answer with its body read.
func (a *actor) ask(t *testing.T, w *world, method, path, body string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if w.plain == nil {
		w.plain = w.raw(true)
	}
	res, err := w.plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, b
}

func codeOf(t *testing.T, b []byte) string {
	t.Helper()
	var p wire.Problem
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return p.Code
}

// TestIdempotencyKeys: the same request with the same key makes one thing and gets one answer, secret included, and the database holds no secret of it.
func TestIdempotencyKeys(t *testing.T) {
	w := newWorld(t)
	admin, other := w.person(accounts.RoleAdmin), w.person(accounts.RoleAdmin)
	const body = `{"name":"ci","role":"viewer"}`
	res, first := admin.ask(t, w, "POST", wire.PathTokens, body, wire.HeaderIdempotencyKey, "k1")
	if res.StatusCode != http.StatusCreated || res.Header.Get(wire.HeaderReplayed) != "" {
		t.Fatalf("%d %s", res.StatusCode, first)
	}
	res, again := admin.ask(t, w, "POST", wire.PathTokens, body, wire.HeaderIdempotencyKey, "k1")
	if res.StatusCode != http.StatusCreated || !bytes.Equal(first, again) || res.Header.Get(wire.HeaderReplayed) != "true" || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("again: %d %s", res.StatusCode, again)
	}
	for what, ask := range map[string]func() (*http.Response, []byte){
		"another body": func() (*http.Response, []byte) {
			return admin.ask(t, w, "POST", wire.PathTokens, `{"name":"cd","role":"viewer"}`, wire.HeaderIdempotencyKey, "k1")
		},
		"another path": func() (*http.Response, []byte) {
			return admin.ask(t, w, "POST", wire.PathEnrolTokens, body, wire.HeaderIdempotencyKey, "k1")
		},
	} {
		if res, b := ask(); res.StatusCode != http.StatusUnprocessableEntity || codeOf(t, b) != wire.CodeKeyReused {
			t.Errorf("%s: %d %s", what, res.StatusCode, b)
		}
	}
	if res, b := other.ask(t, w, "POST", wire.PathTokens, body, wire.HeaderIdempotencyKey, "k1"); res.StatusCode != http.StatusCreated || bytes.Equal(b, first) {
		t.Errorf("somebody else with the same key: %d %s", res.StatusCode, b)
	}
	// What failed made nothing, and may be tried again with the same key.
	bad := `{"name":"x","role":"king"}`
	for range 2 {
		if res, b := admin.ask(t, w, "POST", wire.PathTokens, bad, wire.HeaderIdempotencyKey, "k2"); codeOf(t, b) != wire.CodeBadRequest || res.Header.Get(wire.HeaderReplayed) != "" {
			t.Errorf("%s", b)
		}
	}
	if res, b := admin.ask(t, w, "POST", wire.PathTokens, body, wire.HeaderIdempotencyKey, "k2"); res.StatusCode != http.StatusCreated {
		t.Errorf("after a failure: %s", b)
	}
	if res, b := admin.ask(t, w, "POST", wire.PathTokens, body, wire.HeaderIdempotencyKey, strings.Repeat("k", 201)); res.StatusCode != http.StatusBadRequest {
		t.Errorf("a long key: %s", b)
	}
	var made wire.TokenInfo
	if err := json.Unmarshal(first, &made); err != nil {
		t.Fatal(err)
	}
	secret := []byte(made.Token[len(made.Token)-40:])
	if err := w.env.DB.View(t.Context(), func(r store.Reader) error {
		for _, table := range []string{tableKeys, tableKeyOrder, "audit", "api_tokens"} {
			if err := r.Scan(table, nil, nil, func(k, v []byte) error {
				if bytes.Contains(v, secret) || bytes.Contains(k, secret) {
					t.Errorf("table %s holds the token's text", table)
				}
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// A master that died in the middle does not know whether it was done, and says so.
	w.handler.s.keys.boot = "another"
	k := newRequestKey(&Principal{Principal: &accounts.Principal{Kind: "token", ID: "x"}}, "k", must(http.NewRequest("POST", "/x", nil)), nil)
	if _, _, err := w.handler.s.recall(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	_, _, err := w.handler.s.recall(t.Context(), k)
	wantCode(t, "the same request at the same time", err, wire.CodeBusy)
	w.handler.s.keys.boot = "and another"
	_, _, err = w.handler.s.recall(t.Context(), k)
	wantCode(t, "after the master died", err, wire.CodeConflict)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestETags: a change that is based on what is not so any more is refused, and nothing is changed.
func TestETags(t *testing.T) {
	w := newWorld(t)
	agent, admin := w.enrol(ca.KindAgent, true), w.person(accounts.RoleAdmin)
	path := wire.Path(wire.PathMachine, agent.id)
	res, _ := admin.ask(t, w, "GET", path, "")
	tag := res.Header.Get("ETag")
	if tag == "" {
		t.Fatal("no ETag")
	}
	if err := agent.Report(t.Context(), &wire.Report{State: "idle"}); err != nil { // news of the agent are no change of what people set
		t.Fatal(err)
	}
	if res, b := admin.ask(t, w, "PATCH", path, `{"group":"web"}`); res.StatusCode != http.StatusPreconditionRequired || codeOf(t, b) != wire.CodeNoMatch {
		t.Errorf("without If-Match: %d %s", res.StatusCode, b)
	}
	res, b := admin.ask(t, w, "PATCH", path, `{"group":"web","tags":["b","a","b"]}`, "If-Match", tag)
	if res.StatusCode != http.StatusOK || res.Header.Get("ETag") == tag {
		t.Fatalf("%d %s", res.StatusCode, b)
	}
	for what, do := range map[string][]string{
		"change": {"PATCH", path, `{"bandwidth":1}`}, "pause": {"POST", path + "/pause", ""}, "remove": {"DELETE", path, ""},
	} {
		if res, b := admin.ask(t, w, do[0], do[1], do[2], "If-Match", tag); res.StatusCode != http.StatusPreconditionFailed || codeOf(t, b) != wire.CodeChanged {
			t.Errorf("%s with a stale ETag: %d %s", what, res.StatusCode, b)
		}
	}
	_, b = admin.ask(t, w, "GET", path, "")
	var m wire.MachineInfo
	if err := json.Unmarshal(b, &m); err != nil || m.Group != "web" || !slices.Equal(m.Tags, []string{"a", "b"}) || m.Paused || *m.Policy.Bandwidth != 0 || `"`+m.Revision+`"` != res.Header.Get("ETag") {
		t.Errorf("%+v, %v", m, err)
	}
	template := path + "/launch-template"
	res, _ = admin.ask(t, w, "GET", template, "")
	old := res.Header.Get("ETag")
	if res, b := admin.ask(t, w, "PUT", template, `{"cpus":2}`, "If-Match", old); res.StatusCode != http.StatusOK {
		t.Errorf("%s", b)
	}
	if res, b := admin.ask(t, w, "PUT", template, `{"cpus":3}`, "If-Match", old); codeOf(t, b) != wire.CodeChanged {
		t.Errorf("%d %s", res.StatusCode, b)
	}
}

// TestPages: a list is read page by page, in the order that was asked for, while things come and go.
func TestPages(t *testing.T) {
	w := newWorld(t)
	admin := w.person(accounts.RoleAdmin)
	for i := range 25 {
		w.env.NewAgent(fmt.Sprintf("m%02d", i))
	}
	get := func(query string) wire.Page[wire.MachineInfo] {
		t.Helper()
		res, b := admin.ask(t, w, "GET", wire.PathMachines+"?"+query, "")
		var p wire.Page[wire.MachineInfo]
		if err := json.Unmarshal(b, &p); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", query, res.StatusCode, b)
		}
		return p
	}
	var names []string
	p := get("limit=10&sort=-name")
	if p.Total != 25 || len(p.Items) != 10 {
		t.Errorf("%d of %d", len(p.Items), p.Total)
	}
	for {
		for _, m := range p.Items {
			names = append(names, m.Name)
		}
		if p.NextCursor == "" {
			break
		}
		if len(names) == 10 {
			w.env.NewAgent("m99") // before the page: it is not seen, and nothing is seen twice
			c := w.admin()
			if err := c.RemoveMachine(t.Context(), names[9]); err != nil {
				t.Fatal(err)
			}
		}
		p = get("limit=10&sort=-name&cursor=" + p.NextCursor)
	}
	if len(names) != 25 || !slices.IsSortedFunc(names, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("%d: %v", len(names), names)
	}
	if p := get("search=M07"); p.Total != 1 || p.Items[0].Name != "m07" {
		t.Errorf("search: %+v", p)
	}
	if p := get("replication=enrolled,lagging&limit=1"); p.Total != 25 || p.NextCursor == "" {
		t.Errorf("filter: %d", p.Total)
	}
	if p := get("replication=paused"); p.Total != 0 || p.Items == nil {
		t.Errorf("nothing: %+v", p)
	}
	for _, query := range []string{"limit=0", "limit=501", "limit=x", "sort=color", "cursor=x", "cursor=" + get("limit=1").NextCursor + "&sort=-name", "colour=red", "search=" + strings.Repeat("x", 257)} {
		if res, b := admin.ask(t, w, "GET", wire.PathMachines+"?"+query, ""); res.StatusCode != http.StatusBadRequest || codeOf(t, b) != wire.CodeBadRequest {
			t.Errorf("%.40s: %d %s", query, res.StatusCode, b)
		}
	}
}

// TestOperations: what runs long outlives the request that began it, is seen, and can be stopped.
func TestOperations(t *testing.T) {
	w := newWorld(t)
	admin := w.person(accounts.RoleAdmin)
	begun := make(chan struct{})
	s := w.handler.s
	ctx := withPrincipal(t.Context(), &Principal{Principal: must(w.accounts.Bearer(t.Context(), admin.token)), Project: "default"})
	out, err := s.begin(ctx, "staging-check", "", func(ctx context.Context, tell func(wire.Progress)) (any, error) {
		tell(wire.Progress{Done: 1, Message: "one"})
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	_, b := admin.ask(t, w, "GET", out.Location, "")
	var o wire.OperationInfo
	if err := json.Unmarshal(b, &o); err != nil || o.State != wire.OperationRunning || len(o.Lines) != 1 || o.Progress.Done != 1 || o.By == "" {
		t.Errorf("%s, %v", b, err)
	}
	if res, b := admin.ask(t, w, "POST", wire.Path(wire.PathOperationCancel, o.ID), ""); res.StatusCode != http.StatusNoContent {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	s.runs.group.Wait()
	_, b = admin.ask(t, w, "GET", out.Location, "")
	if err := json.Unmarshal(b, &o); err != nil || o.State != wire.OperationCancelled || o.Problem == nil || o.Ended.IsZero() {
		t.Errorf("%s, %v", b, err)
	}
	if res, b := admin.ask(t, w, "POST", wire.Path(wire.PathOperationCancel, o.ID), ""); codeOf(t, b) != wire.CodeConflict {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	hold := make(chan struct{})
	for i := 0; ; i++ {
		_, err := s.begin(ctx, "x", "", func(ctx context.Context, _ func(wire.Progress)) (any, error) { <-hold; return nil, errors.New("x") })
		if err != nil {
			if wantCode(t, "too many", err, wire.CodeBusy); i != maxRunning {
				t.Errorf("%d run at once", i)
			}
			break
		}
	}
	close(hold)
}

// TestSignIn: the first admin's link makes him, his cookie is good for the API, and scopes and roles hold.
func TestSignIn(t *testing.T) {
	w := newWorld(t)
	text, _, ok, err := w.accounts.FirstLink(t.Context())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	const password = "correct horse battery staple"
	nobody := &actor{}
	res, b := nobody.ask(t, w, "POST", wire.PathLink, string(must(json.Marshal(wire.LinkText{Link: text}))))
	if res.StatusCode != http.StatusOK || !strings.Contains(string(b), accounts.LinkFirst) {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	res, b = nobody.ask(t, w, "POST", wire.PathLinkUse, string(must(json.Marshal(wire.LinkUse{Link: text, Name: "ada", Password: password}))))
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", res.StatusCode, b)
	}
	cookie := ""
	for _, c := range res.Cookies() {
		if c.Name == accounts.SessionCookieName {
			if cookie = c.Value; !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode {
				t.Errorf("cookie %v", c)
			}
		}
	}
	with := func(method, path, body string, more ...string) (*http.Response, []byte) {
		t.Helper()
		return nobody.ask(t, w, method, path, body, append([]string{"Authorization", "", "Cookie", accounts.SessionCookieName + "=" + cookie}, more...)...)
	}
	if res, b := with("GET", wire.PathWhoami, ""); res.StatusCode != http.StatusOK || !strings.Contains(string(b), `"ada"`) || !strings.Contains(string(b), `"admin"`) {
		t.Fatalf("%d %s", res.StatusCode, b)
	}
	res, b = with("POST", wire.PathUsers, `{"name":"bob","roles":{"default":"viewer"}}`, "Idempotency-Key", "u1")
	var made wire.NewUser
	if err := json.Unmarshal(b, &made); err != nil || res.StatusCode != http.StatusCreated || made.Link.Link == "" {
		t.Fatalf("%d %s", res.StatusCode, b)
	}
	res, _ = with("GET", wire.Path(wire.PathUser, made.ID), "")
	if res, b := with("PATCH", wire.Path(wire.PathUser, made.ID), `{"roles":{"default":"operator"}}`, "If-Match", res.Header.Get("ETag")); res.StatusCode != http.StatusOK {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	if res, b := with("PATCH", wire.Path(wire.PathUser, made.ID), `{"disabled":true}`, "If-Match", res.Header.Get("ETag")); codeOf(t, b) != wire.CodeChanged {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	if res, b := with("POST", wire.PathTokens, `{"name":"ci","role":"admin","scopes":["machines:read"]}`); res.StatusCode == http.StatusCreated {
		var tok wire.TokenInfo
		if err := json.Unmarshal(b, &tok); err != nil {
			t.Fatal(err)
		}
		scoped := &actor{token: tok.Token}
		for path, want := range map[string]int{wire.PathMachines: 200, wire.PathWhoami: 200, wire.PathNodes: 403, wire.PathTokens: 403, wire.PathUsers: 403} {
			if res, b := scoped.ask(t, w, "GET", path, ""); res.StatusCode != want {
				t.Errorf("machines:read at %s: %d %s", path, res.StatusCode, b)
			}
		}
	} else {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	// Signed in with a cookie, another site's page is still refused, and a project that is not there is not.
	if res, b := with("POST", wire.PathLogout, "", "Origin", "https://evil.example"); codeOf(t, b) != wire.CodeCrossOrigin {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	if res, _ := with("GET", wire.PathMachines+"?project=default&limit=5", ""); res.StatusCode != http.StatusOK {
		t.Errorf("?project=: %d", res.StatusCode)
	}
	_, b = with("GET", wire.PathWholeAudit, "")
	for _, operation := range []string{"use-link", "create-user", "change-user", "create-token"} {
		if !strings.Contains(string(b), `"`+operation+`"`) {
			t.Errorf("%s is not in the audit log: %s", operation, b)
		}
	}
	if strings.Contains(string(b), password) || strings.Contains(string(b), made.Link.Link) || strings.Contains(string(b), "omt_") {
		t.Error("the audit log holds a secret")
	}
	if _, b := with("GET", wire.PathAuditVerify, ""); !strings.Contains(string(b), `"ok":true`) {
		t.Errorf("%s", b)
	}
	if res, b := with("GET", wire.PathAuditExport, ""); res.StatusCode != http.StatusOK || bytes.Count(b, []byte("\n")) < 5 {
		t.Errorf("export: %d %s", res.StatusCode, b)
	}
	if res, _ := with("POST", wire.PathLogout, ""); res.StatusCode != http.StatusNoContent {
		t.Errorf("logout: %d", res.StatusCode)
	}
	if res, _ := with("GET", wire.PathWhoami, ""); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("after logout: %d", res.StatusCode)
	}
	for range 200 {
		res, b := nobody.ask(t, w, "POST", wire.PathLogin, `{"name":"ada","password":"wrong"}`)
		if res.StatusCode == http.StatusTooManyRequests || codeOf(t, b) == wire.CodeBusy {
			if res.Header.Get("Retry-After") == "" {
				t.Errorf("%v", res.Header)
			}
			return
		}
	}
	t.Error("passwords can be guessed without end")
}
