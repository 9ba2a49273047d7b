package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/webhook"
	"github.com/openmigrate/openmigrate/wire"
)

// TestFuzzedRequests sends requests that are made from the OpenAPI document, right ones and wrong ones: whatever comes, nothing answers that the master failed, nothing
// hangs, and each answer is of the form that the document says. OPENMIGRATE_FUZZ_REQUESTS is how many (100000 for the long form), OPENMIGRATE_FUZZ_SEED
// which.
func TestFuzzedRequests(t *testing.T) {
	n, seed := 1500, uint64(1)
	for name, set := range map[string]func(uint64){"OPENMIGRATE_FUZZ_REQUESTS": func(v uint64) { n = int(v) }, "OPENMIGRATE_FUZZ_SEED": func(v uint64) { seed = v }} {
		if text := os.Getenv(name); text != "" {
			v, err := strconv.ParseUint(text, 10, 32)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			set(v)
		}
	}
	w := newWorld(t)
	f := &fuzzer{t: t, w: w, rand: rand.New(rand.NewPCG(seed, 0)), doc: openAPI(t), real: map[string][]string{}, seen: map[int]int{}}
	for _, a := range []*actor{w.master(), w.person("admin"), w.person("operator"), w.person("viewer"), w.stranger()} {
		f.tokens = append(f.tokens, a.token)
	}
	f.tokens = append(f.tokens, f.tokens[0], f.tokens[0], f.tokens[1], f.tokens[1]) // mostly those who get far
	for path, item := range f.doc.Paths {
		for method, o := range operationsOf(item) {
			f.ops = append(f.ops, fuzzed{method, path, o})
		}
	}
	slices.SortFunc(f.ops, func(a, b fuzzed) int { return strings.Compare(a.method+a.path, b.method+b.path) })
	start := time.Now()
	for i := range n {
		if i%500 == 0 {
			f.furnish(i)
		}
		f.one()
		if t.Failed() {
			t.Fatalf("request %d of seed %d", i, seed)
		}
	}
	t.Logf("%d requests in %v; answers by status: %v; slowest %v (%s)", n, time.Since(start).Round(time.Millisecond), f.seen, f.slowest.Round(time.Millisecond), f.slow)
	if f.seen[200] == 0 || f.seen[201] == 0 || f.seen[202] == 0 || f.seen[204] == 0 || f.seen[400] == 0 || f.seen[404] == 0 {
		t.Errorf("requests did not get far: %v", f.seen)
	}
}

type fuzzed struct {
	method, path string
	o            *huma.Operation
}

type fuzzer struct {
	t       *testing.T
	w       *world
	rand    *rand.Rand
	doc     *huma.OpenAPI
	ops     []fuzzed
	tokens  []string
	real    map[string][]string // by name of the path's parameter
	seen    map[int]int
	slowest time.Duration
	slow    string
	keys    []string
}

// furnish makes things that requests can name.
func (f *fuzzer) furnish(i int) {
	agent := f.w.env.NewAgent(fmt.Sprintf("web-%d", i))
	agent.Now = f.w.env.Clock.Now()
	first, _ := agent.Replicate(catalogDisk())
	hook, _, err := f.w.webhooks.Create(f.t.Context(), "default", webhook.Spec{URL: "https://hooks.example.com/x", Types: []string{"*"}, Enabled: true})
	if err != nil { // there are as many as may be
		hook = &webhook.Hook{ID: "hook-0"}
	}
	user, err := f.w.accounts.CreateUser(f.t.Context(), fmt.Sprintf("user%d", i), "", map[string]string{"default": "viewer"})
	if err != nil {
		f.t.Fatal(err)
	}
	for name, id := range map[string]string{"machine": agent.Machine.ID, "restpoint": first, "webhook": hook.ID, "user": user.ID} {
		f.real[name] = append(f.real[name], id)
	}
	f.real["machine"] = append(f.real["machine"], agent.Machine.Name)
	f.real["provider"], f.real["project"], f.real["launch"] = []string{"here"}, []string{"default"}, []string{"l0", "l1"}
	f.real["action"] = []string{"check", "gc", "rebuild-index", "check-deep"}
}

var oddTexts = []string{"", " ", "x", "\x00", "../..", "a/b", "%", "%00", "null", "-1", "99999999999999999999", "<script>alert(1)</script>", `"'`, "\u202e\u2066evil", "日本語",
	"😀", "\xff\xfe", "a\r\nX: y", "' OR 1=1 --", "${jndi:ldap://x}", strings.Repeat("A", 300), strings.Repeat("é", 5000), "*", `""`, `"*"`, "1h", "-1s", "2026-11-30T00:00:00Z"}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func (f *fuzzer) chance(percent int) bool { return f.rand.IntN(100) < percent }

func (f *fuzzer) one() {
	op := pick(f.rand, f.ops)
	path := op.path
	query := url.Values{}
	header := http.Header{}
	for _, p := range op.o.Parameters {
		if p.In != "path" && !p.Required && f.chance(60) {
			continue
		}
		v := ""
		switch {
		case len(f.real[p.Name]) > 0 && f.chance(75):
			v = pick(f.rand, f.real[p.Name])
		case f.chance(70):
			v = textOf(f.value(p.Schema, 0))
		default:
			v = pick(f.rand, oddTexts)
		}
		switch p.In {
		case "path":
			if v == "" {
				v = "x"
			}
			path = strings.Replace(path, "{"+p.Name+"}", url.PathEscape(v), 1)
		case "query":
			query.Set(p.Name, v)
		case "header":
			if p.Name == wire.HeaderIdempotencyKey {
				if len(f.keys) > 0 && f.chance(30) {
					v = pick(f.rand, f.keys)
				}
				f.keys = append(f.keys, v)
			}
			if p.Name == "If-Match" && f.chance(60) {
				v = "*"
			}
			if p.Name == wire.HeaderProject && f.chance(70) {
				continue
			}
			header.Set(p.Name, v)
		}
	}
	if f.chance(3) {
		query.Set(pick(f.rand, oddTexts), "x")
	}
	target := path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	body := f.body(op.o)
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	if op.path == wire.PathEvents {
		ctx, cancel = context.WithTimeout(f.t.Context(), 3*time.Millisecond)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, op.method, "https://master.test"+target, bytes.NewReader(body))
	if err != nil {
		return // it is no request that can be sent
	}
	req.Header = header
	req.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", f.rand.IntN(250))
	if body != nil && !f.chance(3) {
		req.Header.Set("Content-Type", "application/json")
	}
	if !f.chance(4) {
		req.Header.Set("Authorization", "Bearer "+pick(f.rand, f.tokens))
	}
	rec := httptest.NewRecorder()
	began := time.Now()
	f.w.handler.ServeHTTP(rec, req)
	if took := time.Since(began); took > f.slowest && op.path != wire.PathEvents {
		f.slowest, f.slow = took, op.o.OperationID
	}
	if op.path == wire.PathEvents && rec.Code == http.StatusServiceUnavailable {
		return // it was given up before it began
	}
	f.seen[rec.Code]++
	f.check(&op, target, body, rec)
}

func (f *fuzzer) check(op *fuzzed, target string, body []byte, rec *httptest.ResponseRecorder) {
	at := fmt.Sprintf("%s %.300s with %.500q: status %d, %.500q", op.method, target, body, rec.Code, rec.Body)
	contentType, _, _ := strings.Cut(rec.Header().Get("Content-Type"), ";")
	if rec.Code >= 300 {
		var p wire.Problem
		if rec.Code >= 300 && rec.Code < 400 && strings.Contains(target, "..") {
			return // a path that is not plain is redirected to one that is
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || contentType != wire.ProblemType || p.Status != rec.Code || p.Code == "" || p.Title == "" || p.Detail == "" {
			f.t.Errorf("%s: not a whole problem (%s, %v)", at, contentType, err)
		}
		if rec.Code >= 500 && rec.Code != http.StatusNotImplemented {
			f.t.Errorf("%s: the master failed", at)
		}
		return
	}
	res := op.o.Responses[strconv.Itoa(rec.Code)]
	if res == nil {
		f.t.Errorf("%s: the document has no such answer", at)
		return
	}
	media := res.Content[contentType]
	if rec.Body.Len() > 0 && media == nil || rec.Body.Len() == 0 && len(res.Content) > 0 && rec.Code != http.StatusOK {
		f.t.Errorf("%s: %q is not what the document says", at, contentType)
		return
	}
	if contentType != "application/json" {
		return
	}
	var v any
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		f.t.Errorf("%s: %v", at, err)
		return
	}
	var found huma.ValidateResult
	huma.Validate(f.doc.Components.Schemas, media.Schema, huma.NewPathBuffer([]byte{}, 0), huma.ModeReadFromServer, v, &found)
	for _, err := range found.Errors {
		f.t.Errorf("%s: %v", at, err)
	}
}

// body makes a request's body: right, nearly right, or anything.
func (f *fuzzer) body(o *huma.Operation) []byte {
	if o.RequestBody == nil {
		if f.chance(2) {
			return []byte(`{"x":1}`)
		}
		return nil
	}
	switch f.rand.IntN(40) {
	case 0:
		return []byte(pick(f.rand, oddTexts))
	case 1:
		return []byte(strings.Repeat("[", 5000))
	case 2:
		return bytes.Repeat([]byte(`{"a":`), 20000)
	case 3:
		return []byte(`{} {}`)
	case 4:
		return nil
	}
	v := f.value(o.RequestBody.Content["application/json"].Schema, 0)
	if m, ok := v.(map[string]any); ok && f.chance(30) {
		names := slices.Sorted(maps.Keys(m))
		switch {
		case len(names) > 0 && f.chance(50):
			m[pick(f.rand, names)] = f.junk()
		case len(names) > 0 && f.chance(50):
			delete(m, pick(f.rand, names))
		default:
			m[pick(f.rand, oddTexts)] = f.junk()
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	if f.chance(3) {
		b = b[:f.rand.IntN(len(b)+1)]
	}
	return b
}

func (f *fuzzer) junk() any {
	return pick(f.rand, []any{nil, true, -1, 1e300, 0.5, "x", []any{}, map[string]any{}, []any{nil}, pick(f.rand, oddTexts), int64(1) << 62})
}

// value makes a value that fits a schema, mostly.
func (f *fuzzer) value(s *huma.Schema, depth int) any {
	for s.Ref != "" {
		s = f.doc.Components.Schemas.SchemaFromRef(s.Ref)
	}
	if len(s.Enum) > 0 && !f.chance(5) {
		return pick(f.rand, s.Enum)
	}
	switch s.Type {
	case huma.TypeObject:
		m := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			if slices.Contains(s.Required, name) || depth < 4 && f.chance(35) {
				m[name] = f.named(name, s.Properties[name], depth+1)
			}
		}
		if more, ok := s.AdditionalProperties.(*huma.Schema); ok {
			for range f.rand.IntN(3) {
				m[pick(f.rand, []string{"default", "*", "a", "other", pick(f.rand, oddTexts)})] = f.value(more, depth+1)
			}
		}
		return m
	case huma.TypeArray:
		list := []any{}
		for range f.rand.IntN(4) {
			list = append(list, f.value(s.Items, depth+1))
		}
		return list
	case huma.TypeInteger, huma.TypeNumber:
		return pick(f.rand, []any{0, 1, 2, 3, 22, 80, 443, 500, 1 << 16, 1 << 30, int64(1) << 40})
	case huma.TypeBoolean:
		return f.chance(50)
	}
	if len(s.Examples) > 0 && f.chance(80) {
		return s.Examples[0]
	}
	return pick(f.rand, append([]string{"a", "web", "default", "viewer", "admin", "verify", "test", "cutover", "tcp", "boot", "agent", "node", "1m"}, oddTexts...))
}

// named makes a value for a field of whose name something is known.
func (f *fuzzer) named(name string, s *huma.Schema, depth int) any {
	good := map[string][]any{"kind": {"test", "cutover", "verify", "hydrate", "export", "agent", "node", "tcp", "http", "boot"}, "role": {"viewer", "operator", "admin"},
		"roles": {map[string]any{"default": "viewer"}}, "url": {"https://hooks.example.com/y"}, "types": {[]any{"launch.*"}}, "scopes": {[]any{"machines:read"}}, "interval": {"1m", "-1s"},
		"password": {"correct horse battery staple"}, "name": {"bob", "alice", "ci"}}
	if len(f.real[name]) > 0 && f.chance(75) {
		return pick(f.rand, f.real[name])
	}
	if len(good[name]) > 0 && f.chance(70) {
		return pick(f.rand, good[name])
	}
	return f.value(s, depth)
}

func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var parts []string
		for _, x := range v {
			parts = append(parts, textOf(x))
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}
