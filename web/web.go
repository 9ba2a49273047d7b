// Package web embeds the dashboard and serves it. What npm built lies in dist; without it (go install, or a build without Node) a page says how to
// build it, and everything but the dashboard works.
//
// The files are public: they hold nothing of any project. Everything that is shown comes over the API, which decides who may see it.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed all:dist
var embedded embed.FS

//go:embed fallback.html
var fallback []byte

// pathsJSON lists the first folder of each path of the app; its router reads the same file.
//
//go:embed src/paths.json
var pathsJSON []byte

// policy lets a page run what came with it, talk to its own master, and nothing else. blob: is for pictures that were fetched with a token.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' blob:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

const (
	forGood = "public, max-age=31536000, immutable" // the name holds a hash of the content
	ask     = "no-cache"                            // keep it, but ask whether it is still the one
)

// file is one file as it is sent.
type file struct {
	contentType, etag, cache string
	plain                    []byte
	zipped                   func() []byte // nil: not worth it, or nothing would be gained
}

// dashboard serves the app's files. It may be used by any number of goroutines.
type dashboard struct {
	files map[string]*file // by path
	index *file
	app   []string // paths that are the app's, with all below them
	built bool
	other http.Handler
}

// Handler serves the dashboard; what is none of its paths goes to other.
func Handler(other http.Handler) (http.Handler, error) {
	dist, err := fs.Sub(embedded, "dist")
	if err != nil {
		return nil, fmt.Errorf("open dashboard: %w", err)
	}
	return newDashboard(dist, other)
}

func newDashboard(dist fs.FS, other http.Handler) (*dashboard, error) {
	d := &dashboard{files: map[string]*file{}, other: other}
	if err := json.Unmarshal(pathsJSON, &d.app); err != nil {
		return nil, fmt.Errorf("read the dashboard's paths: %w", err)
	}
	err := fs.WalkDir(dist, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(path.Base(name), ".") || name == "manifest.json" {
			return err
		}
		b, err := fs.ReadFile(dist, name)
		if err != nil {
			return err
		}
		cache := ask
		if strings.HasPrefix(name, "assets/") {
			cache = forGood
		}
		d.files["/"+name] = newFile(name, b, cache)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read dashboard: %w", err)
	}
	d.index, d.built = d.files["/index.html"]
	delete(d.files, "/index.html") // it is served under the app's paths
	if !d.built {
		d.index = newFile("fallback.html", fallback, "no-store")
	}
	return d, nil
}

func newFile(name string, b []byte, cache string) *file {
	sum := sha256.Sum256(b)
	f := &file{plain: b, cache: cache, etag: `"` + hex.EncodeToString(sum[:12]) + `"`, contentType: mime.TypeByExtension(path.Ext(name))}
	switch path.Ext(name) { // not what the host's tables say
	case ".js":
		f.contentType = "text/javascript; charset=utf-8"
	case ".css":
		f.contentType = "text/css; charset=utf-8"
	case ".svg":
		f.contentType = "image/svg+xml"
	case ".html":
		f.contentType = "text/html; charset=utf-8"
	case ".woff2":
		f.contentType = "font/woff2"
		return f // compressed already
	}
	f.zipped = sync.OnceValue(func() []byte {
		var out bytes.Buffer
		w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
		if err == nil {
			_, err = w.Write(b)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil || out.Len() >= len(b) {
			return nil
		}
		return out.Bytes()
	})
	return f
}

// ServeHTTP implements http.Handler.
func (d *dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := d.files[r.URL.Path]
	if f == nil && d.ours(r.URL.Path) {
		f = d.index
	}
	if f == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		d.other.ServeHTTP(w, r)
		return
	}
	f.serve(w, r)
}

// ours reports whether a path is one of the app's, which its router shows. Anything else stays what it was: a wrong address must not look like a page.
func (d *dashboard) ours(p string) bool {
	for _, a := range d.app {
		if p == a || a != "/" && strings.HasPrefix(p, a+"/") {
			return true
		}
	}
	return false
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", f.cache)
	h.Set("ETag", f.etag)
	h.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	b := f.plain
	if f.zipped != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		if z := f.zipped(); z != nil {
			h.Set("Content-Encoding", "gzip")
			b = z
		}
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Length", fmt.Sprint(len(b)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(b) // the caller may be gone
	}
}
