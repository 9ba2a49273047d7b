package api

import (
	_ "embed"
	"net/http"
)

// The reference page is ours, small, and needs nothing from the network: it reads the document and shows it. Its script and style are files of their own, so
// that its content security policy needs no exception.
var (
	//go:embed reference/index.html
	referencePage []byte
	//go:embed reference/reference.js
	referenceScript []byte
	//go:embed reference/reference.css
	referenceStyle []byte
)

func (s *server) serveDocument(w http.ResponseWriter, _ *http.Request) {
	serveStatic(w, "application/json", s.document)
}

func serveStatic(w http.ResponseWriter, contentType string, b []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(b) // the caller may be gone
}
