package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

var built = fstest.MapFS{
	".gitkeep":             {},
	"manifest.json":        {Data: []byte("{}")},
	"index.html":           {Data: []byte("<!doctype html>the app")},
	"favicon.svg":          {Data: []byte("<svg/>")},
	"assets/index-1a2b.js": {Data: []byte(strings.Repeat("let x = 1;\n", 100))},
	"assets/a-1.woff2":     {Data: []byte("wOF2")},
}

func made(t *testing.T, files fstest.MapFS) *dashboard {
	t.Helper()
	d, err := newDashboard(files, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func get(d http.Handler, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result()
}

func TestWhatIsServedWhere(t *testing.T) {
	d := made(t, built)
	if !d.built {
		t.Error("a dashboard with an index counts as not built")
	}
	for _, c := range []struct {
		method, path string
		status       int
		cache, text  string
	}{
		{"GET", "/", 200, ask, "the app"},
		{"GET", "/machines", 200, ask, "the app"},
		{"GET", "/machines/db-1/disks", 200, ask, "the app"},
		{"HEAD", "/machines", 200, ask, ""},
		{"GET", "/assets/index-1a2b.js", 200, forGood, "let x"},
		{"GET", "/favicon.svg", 200, ask, "<svg/>"},
		{"GET", "/assets/gone-1.js", 418, "", ""},
		{"GET", "/assets/", 418, "", ""},
		{"GET", "/index.html", 418, "", ""},
		{"GET", "/manifest.json", 418, "", ""},
		{"GET", "/.gitkeep", 418, "", ""},
		{"GET", "/machinesx", 418, "", ""},
		{"GET", "/api/v1/machines", 418, "", ""},
		{"GET", "/agent/v1/x", 418, "", ""},
		{"GET", "/wp-login.php", 418, "", ""},
		{"GET", "/machines/../assets/index-1a2b.js", 200, ask, "the app"}, // the path as it came: nothing is resolved
		{"POST", "/machines", 418, "", ""},
		{"DELETE", "/", 418, "", ""},
	} {
		r := get(d, c.method, c.path)
		b, _ := io.ReadAll(r.Body)
		if r.StatusCode != c.status || r.Header.Get("Cache-Control") != c.cache || !strings.Contains(string(b), c.text) || c.text == "" && len(b) > 0 {
			t.Errorf("%s %s: %d, cache %q, %q", c.method, c.path, r.StatusCode, r.Header.Get("Cache-Control"), b)
		}
	}
}

func TestPagesMayDoLittle(t *testing.T) {
	for _, files := range []fstest.MapFS{built, {".gitkeep": {}}} {
		d := made(t, files)
		h := get(d, "GET", "/").Header
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("policy %q lacks %s", csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("headers %v", h)
		}
	}
}

func TestCompressedAndCached(t *testing.T) {
	d := made(t, built)
	r := get(d, "GET", "/assets/index-1a2b.js", "Accept-Encoding", "br, gzip")
	if r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Vary") != "Accept-Encoding" || r.Header.Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Fatalf("headers %v", r.Header)
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil || string(b) != string(built["assets/index-1a2b.js"].Data) {
		t.Errorf("%v, %q", err, b)
	}
	if r := get(d, "GET", "/assets/a-1.woff2", "Accept-Encoding", "gzip"); r.Header.Get("Content-Encoding") != "" {
		t.Error("a font was compressed again")
	}
	tag := get(d, "GET", "/").Header.Get("ETag")
	if r := get(d, "GET", "/machines", "If-None-Match", tag); r.StatusCode != http.StatusNotModified {
		t.Errorf("the same index: %d", r.StatusCode)
	}
}

func TestBuildWithoutDashboardSaysSo(t *testing.T) {
	d := made(t, fstest.MapFS{".gitkeep": {}})
	if d.built {
		t.Error("an empty folder counts as built")
	}
	r := get(d, "GET", "/machines")
	b, _ := io.ReadAll(r.Body)
	if r.StatusCode != 200 || !strings.Contains(string(b), "make build") || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d, %v, %s", r.StatusCode, r.Header, b)
	}
}

func TestEmbeddedFilesCanBeServed(t *testing.T) {
	d, err := Handler(http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	if r := get(d, "GET", "/"); r.StatusCode != 200 {
		t.Errorf("status %d", r.StatusCode)
	}
}
