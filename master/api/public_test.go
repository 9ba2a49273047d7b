package api

import (
	"bufio"
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
	"time"

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

// TestBadInput: what no request should have is refused, and says which field is wrong.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	agent, admin := w.enrol(ca.KindAgent, true), w.person(accounts.RoleAdmin)
	long := strings.Repeat("a", 10_000)
	for _, tt := range []struct{ what, method, path, body, code, field string }{
		{"an unknown field", "PATCH", wire.Path(wire.PathMachine, agent.id), `{"colour":"red"}`, wire.CodeBadRequest, "colour"},
		{"a wrong type", "PATCH", wire.Path(wire.PathMachine, agent.id), `{"bandwidth":"much"}`, wire.CodeBadRequest, "bandwidth"},
		{"a long name", "POST", wire.PathTokens, `{"name":"` + long + `","role":"viewer"}`, wire.CodeBadRequest, "name"},
		{"a long group", "PATCH", wire.Path(wire.PathMachine, agent.id), `{"group":"` + long + `"}`, wire.CodeBadRequest, "group"},
		{"a long tag", "PATCH", wire.Path(wire.PathMachine, agent.id), `{"tags":["` + long + `"]}`, wire.CodeBadRequest, "tags"},
		{"a long id", "GET", wire.Path(wire.PathMachine, long), "", wire.CodeBadRequest, "machine"},
		{"a control character", "PATCH", wire.Path(wire.PathMachine, agent.id), `{"group":"a\u001b[2J"}`, wire.CodeBadRequest, "group"},
		{"a right-to-left mark", "PATCH", wire.Path(wire.PathMachine, agent.id), `{"group":"\u202egpj.exe"}`, wire.CodeBadRequest, "group"},
		{"a long user", "POST", wire.PathLogin, `{"name":"` + long + `","password":"x"}`, wire.CodeUnauthorized, ""},
		{"a long scope", "POST", wire.PathTokens, `{"name":"x","role":"viewer","scopes":["` + long + `"]}`, wire.CodeBadRequest, "scopes"},
		{"a huge body", "POST", wire.PathLaunches, `{"kind":"` + strings.Repeat("x", 1<<20) + `"}`, wire.CodeTooLarge, ""},
		{"deep JSON", "POST", wire.PathLaunches, strings.Repeat("[", 20_000), wire.CodeBadRequest, ""},
		{"nothing", "POST", wire.PathLaunches, "", wire.CodeBadRequest, ""},
	} {
		res, b := admin.ask(t, w, tt.method, tt.path, tt.body, "If-Match", "*")
		var p wire.Problem
		if err := json.Unmarshal(b, &p); err != nil || p.Code != tt.code || tt.field != "" && p.Field != tt.field || len(b) > 4096 {
			t.Errorf("%s: %d %.300s", tt.what, res.StatusCode, b)
		}
	}
	// Names that are odd and printable are kept as they are, and are data, not markup.
	odd := `<b>"O'Neil"</b> 日本 &amp;`
	_, b := admin.ask(t, w, "PATCH", wire.Path(wire.PathMachine, agent.id), string(must(json.Marshal(map[string]string{"group": odd}))), "If-Match", "*")
	var m wire.MachineInfo
	if err := json.Unmarshal(b, &m); err != nil || m.Group != odd {
		t.Errorf("%q, %v", m.Group, err)
	}
	res, _ := admin.ask(t, w, "GET", wire.PathMachines, "")
	if h := res.Header; h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", h)
	}
}

// TestLongHeaders: headers beyond the server's limit are refused before anything looks at them.
func TestLongHeaders(t *testing.T) {
	w := newWorld(t)
	admin := w.person(accounts.RoleAdmin)
	for _, header := range []string{"X-Long", "Cookie", "If-Match"} {
		req := must(http.NewRequestWithContext(t.Context(), "GET", w.url+wire.PathWhoami, nil))
		req.Header.Set("Authorization", "Bearer "+admin.token)
		req.Header.Set(header, strings.Repeat("x", 2<<20))
		res, err := w.raw(false).Do(req)
		if err != nil {
			continue // the connection was closed
		}
		res.Body.Close()
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %d", header, res.StatusCode)
		}
	}
}

// TestSlowPublicBody: half a body and then nothing holds nothing.
func TestSlowPublicBody(t *testing.T) {
	w := newWorld(t)
	admin := w.person(accounts.RoleAdmin)
	for _, key := range []string{"", "k"} {
		body, pipe := io.Pipe()
		go func() { _, _ = io.WriteString(pipe, `{"name":`) }()
		ctx, cancel := context.WithTimeout(t.Context(), 2*bodyTime)
		req := must(http.NewRequestWithContext(ctx, "POST", w.url+wire.PathTokens, body))
		req.Header.Set("Authorization", "Bearer "+admin.token)
		if key != "" {
			req.Header.Set(wire.HeaderIdempotencyKey, key)
		}
		start := time.Now()
		res, err := w.raw(true).Do(req)
		if err == nil {
			if p := problem(t, res); p.Status != http.StatusRequestTimeout {
				t.Errorf("%+v", p)
			}
		}
		if ctx.Err() != nil || time.Since(start) > bodyTime+5*time.Second {
			t.Error("the master waited for ever")
		}
		cancel()
		_ = pipe.Close()
	}
}

// TestCrossOrigin: a page of another site makes a browser change nothing here.
func TestCrossOrigin(t *testing.T) {
	w := newWorld(t)
	admin := w.person(accounts.RoleAdmin)
	const body = `{"name":"x","role":"viewer"}`
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		if res, b := admin.ask(t, w, "POST", wire.PathTokens, body, header...); res.StatusCode != http.StatusForbidden || codeOf(t, b) != wire.CodeCrossOrigin {
			t.Errorf("%v: %d %s", header, res.StatusCode, b)
		}
	}
	for _, header := range [][]string{nil, {"Sec-Fetch-Site", "same-origin"}, {"Origin", w.url}} {
		if res, b := admin.ask(t, w, "POST", wire.PathTokens, body, header...); res.StatusCode != http.StatusCreated {
			t.Errorf("%v: %d %s", header, res.StatusCode, b)
		}
	}
	res, _ := admin.ask(t, w, "OPTIONS", wire.PathTokens, "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
	if h := res.Header; h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", h)
	}
}

// listen opens an event stream and returns its events.
func (a *actor) listen(t *testing.T, w *world, header ...string) (<-chan wire.ChangeEvent, *http.Response) {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), "GET", w.url+wire.PathEvents, nil))
	req.Header.Set("Authorization", "Bearer "+a.token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := w.raw(true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan wire.ChangeEvent, 100)
	ready := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		first := true
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if first {
				close(ready)
				first = false
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var e wire.ChangeEvent
				if json.Unmarshal([]byte(data), &e) == nil {
					events <- e
				}
			}
		}
		if first {
			close(ready)
		}
	}()
	t.Cleanup(func() { res.Body.Close(); <-done })
	<-ready
	return events, res
}

// next waits for an event; ok is false when the stream has ended.
func next(t *testing.T, events <-chan wire.ChangeEvent) (e wire.ChangeEvent, ok bool) {
	t.Helper()
	select {
	case e, ok = <-events:
		return e, ok
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
	}
	return e, false
}

// TestEvents: whoever listens hears of changes of his project, goes on where he was, and is told when he cannot.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	viewer, stranger := w.person(accounts.RoleViewer), w.stranger()
	events, res := viewer.listen(t, w)
	if res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", res.Header)
	}
	foreign, _ := stranger.listen(t, w)
	w.enrolToken(ca.KindAgent)
	e, _ := next(t, events)
	for e.Kind == "token" { // those of this test were made a moment ago
		e, _ = next(t, events)
	}
	if e.Kind != "enrolment-token" || e.ID == "" || e.Sequence == 0 {
		t.Errorf("%+v", e)
	}
	w.enrolToken(ca.KindNode)
	second, _ := next(t, events)
	if second.Sequence <= e.Sequence {
		t.Errorf("%+v after %+v", second, e)
	}
	resumed, _ := viewer.listen(t, w, "Last-Event-ID", fmt.Sprint(e.Sequence))
	if again, _ := next(t, resumed); again != second {
		t.Errorf("resumed with %+v, want %+v", again, second)
	}
	for _, id := range []string{"1", "99999999999"} { // from before what is remembered, and from a master that was
		if gap, _ := next(t, first(viewer.listen(t, w, "Last-Event-ID", id))); gap.Kind != "gap" || gap.Sequence < second.Sequence {
			t.Errorf("Last-Event-ID %s: %+v", id, gap)
		}
	}
	if res, b := viewer.ask(t, w, "GET", wire.PathEvents, "", "Last-Event-ID", "x"); codeOf(t, b) != wire.CodeBadRequest {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	for len(foreign) > 0 {
		if e := <-foreign; e.Kind != "token" {
			t.Errorf("another project hears of %+v", e)
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestEventsEnd: a stream ends when its token is removed or expires, and when the master stops.
func TestEventsEnd(t *testing.T) {
	w := newWorld(t)
	ends := func(what string, events <-chan wire.ChangeEvent) {
		t.Helper()
		for range 10 {
			if _, ok := next(t, events); !ok {
				return
			}
		}
		t.Errorf("%s: the stream goes on", what)
	}
	tok, text, err := w.accounts.NewToken(t.Context(), nil, accounts.Token{Project: "default", Name: "x", Role: accounts.RoleViewer}, 0)
	if err != nil {
		t.Fatal(err)
	}
	events, _ := (&actor{token: text}).listen(t, w)
	if err := w.accounts.RemoveToken(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	ends("a token that was removed", events)
	_, text, err = w.accounts.NewToken(t.Context(), nil, accounts.Token{Project: "default", Name: "x", Role: accounts.RoleViewer}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	events, _ = (&actor{token: text}).listen(t, w)
	w.env.Clock.Advance(2 * time.Second)
	ends("a token that expired", events)
	events, _ = w.person(accounts.RoleViewer).listen(t, w)
	w.handler.Stop()
	ends("a master that stops", events)
}

// TestEventsAreBounded: one caller opens no more streams than he may, and others still can.
func TestEventsAreBounded(t *testing.T) {
	s := newStreams()
	var leave []func()
	for n := 0; ; n++ {
		l, err := s.enter("a")
		if err != nil {
			if n != maxOwnerOpen || !wire.HasCode(err, wire.CodeBusy) {
				t.Errorf("%d streams, %v", n, err)
			}
			break
		}
		leave = append(leave, l)
	}
	for i := 0; ; i++ {
		l, err := s.enter(fmt.Sprint(i))
		if err != nil {
			if i != maxStreams-maxOwnerOpen {
				t.Errorf("%d streams of others", i)
			}
			break
		}
		leave = append(leave, l)
	}
	for _, l := range leave {
		l()
	}
	if _, err := s.enter("a"); err != nil || len(s.owner) != 1 {
		t.Errorf("%v, %v", err, s.owner)
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
