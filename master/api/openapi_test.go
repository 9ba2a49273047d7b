package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/wire"
)

const documentFile = "openapi.json"

// TestDocumentIsUpToDate: what is checked in is what the Go types say. OPENMIGRATE_UPDATE=1 writes it.
func TestDocumentIsUpToDate(t *testing.T) {
	got, err := Document()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("OPENMIGRATE_UPDATE") != "" {
		if err := os.WriteFile(documentFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the Go types say: run 'make openapi'", documentFile)
	}
	again, err := Document()
	if err != nil || !bytes.Equal(got, again) {
		t.Errorf("two documents of the same types differ (%v)", err)
	}
}

// openAPI is the document as its types.
func openAPI(t *testing.T) *huma.OpenAPI {
	t.Helper()
	_, api := newServer(Deps{}).public()
	return api.OpenAPI()
}

func operationsOf(p *huma.PathItem) map[string]*huma.Operation {
	all := map[string]*huma.Operation{}
	for method, o := range map[string]*huma.Operation{"GET": p.Get, "POST": p.Post, "PUT": p.Put, "PATCH": p.Patch, "DELETE": p.Delete} {
		if o != nil {
			all[method] = o
		}
	}
	return all
}

// TestDocument: every operation has a row in the table and the other way round, says which role it needs, what it answers, and what a problem looks like; a create
// takes an idempotency key, and a change of what has an ETag takes If-Match.
func TestDocument(t *testing.T) {
	doc := openAPI(t)
	seen := map[string]bool{}
	tags := []string{}
	for _, tag := range doc.Tags {
		tags = append(tags, tag.Name)
	}
	for path, item := range doc.Paths {
		for method, o := range operationsOf(item) {
			at := method + " " + path
			if seen[o.OperationID] {
				t.Errorf("%s: id %s is used twice", at, o.OperationID)
			}
			seen[o.OperationID] = true
			if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(o.OperationID) || o.Summary == "" || len(o.Tags) != 1 || !slices.Contains(tags, o.Tags[0]) {
				t.Errorf("%s: id %q, summary %q, tags %q", at, o.OperationID, o.Summary, o.Tags)
			}
			if roleOf[access[o.OperationID]] != o.Extensions["x-role"] || (len(o.Security) == 0) != (access[o.OperationID] == anybody) {
				t.Errorf("%s: role %v", at, o.Extensions["x-role"])
			}
			if r := o.Responses["default"]; r == nil || r.Content[wire.ProblemType] == nil {
				t.Errorf("%s: no problem in its answers", at)
			}
			has := func(name string) bool {
				return slices.ContainsFunc(o.Parameters, func(p *huma.Param) bool { return p.Name == name })
			}
			_, created := o.Responses["201"]
			if created && !has(wire.HeaderIdempotencyKey) {
				t.Errorf("%s: makes something, and takes no idempotency key", at)
			}
			if (method == "PATCH" || method == "PUT") && o.OperationID != "change-password" && !has("If-Match") {
				t.Errorf("%s: changes something, and takes no If-Match", at)
			}
			for _, p := range o.Parameters {
				if p.Schema.Type == huma.TypeString && p.Schema.MaxLength == nil && p.Schema.Format != "date-time" && len(p.Schema.Enum) == 0 {
					t.Errorf("%s: parameter %s may be of any length", at, p.Name)
				}
			}
		}
	}
	for id := range access {
		if !seen[id] {
			t.Errorf("%s is in the table, and no operation", id)
		}
	}
	if len(seen) != len(access) {
		t.Errorf("%d operations, %d in the table", len(seen), len(access))
	}
}

// TestReference: the document and its page are for anybody, and the page asks nobody else for anything.
func TestReference(t *testing.T) {
	w := newWorld(t)
	get := func(path string) (string, http.Header) {
		t.Helper()
		res, err := w.raw(true).Get(w.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d, %v", path, res.StatusCode, err)
		}
		return string(b), res.Header
	}
	text, h := get(wire.PathOpenAPI)
	var doc struct {
		OpenAPI string `json:"openapi"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.OpenAPI != "3.1.0" || h.Get("Content-Type") != "application/json" {
		t.Errorf("openapi %q, %v, %v", doc.OpenAPI, h, err)
	}
	page, h := get(wire.PathDocs)
	if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") {
		t.Errorf("policy %q", csp)
	}
	all := page
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		part, _ := get(wire.PathAPI + "/" + m[1])
		if m[1] != "openapi.json" {
			all += part
		}
	}
	if regexp.MustCompile(`https?://|//[a-z]+\.[a-z]`).MatchString(all) || strings.Contains(all, "innerHTML") {
		t.Error("the page reaches out, or makes markup of text")
	}
}
