package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/wire"
)

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
