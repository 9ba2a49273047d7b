package observe

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Requests measures what a handler answers, by which door: agents and nodes, the public API, and the rest.
func (m *Metrics) Requests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		s := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			m.http.WithLabelValues(Door(r.URL.Path), strconv.Itoa(s.code/100)+"xx").Observe(time.Since(begin).Seconds())
		}()
		next.ServeHTTP(s, r)
	})
}

// Door says by few words which part of the API a path belongs to, whatever paths are asked for.
func Door(path string) string {
	for _, prefix := range []string{"/agent/", "/node/", "/jobs/", "/api/", "/login/"} {
		if strings.HasPrefix(path, prefix) {
			return strings.Trim(prefix, "/")
		}
	}
	return other
}

// statusWriter remembers the status. Unwrap keeps http.ResponseController working.
type statusWriter struct {
	http.ResponseWriter
	code  int
	wrote bool
}

// WriteHeader implements http.ResponseWriter.
func (s *statusWriter) WriteHeader(code int) {
	if !s.wrote && code >= 200 {
		s.code, s.wrote = code, true
	}
	s.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (s *statusWriter) Write(b []byte) (int, error) {
	s.wrote = true
	return s.ResponseWriter.Write(b)
}

// Flush implements http.Flusher, for who asks for it by type.
func (s *statusWriter) Flush() {
	_ = http.NewResponseController(s.ResponseWriter).Flush() // one that cannot has nothing to flush
}

// Unwrap is for http.ResponseController.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
