package fault

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
)

// Handler fails as its rules say, and is the handler below otherwise.
type Handler struct {
	script
	below http.Handler
}

// NewHandler wraps below.
func NewHandler(below http.Handler, rules ...Rule) *Handler {
	return &Handler{below: below, script: script{rules: rules}}
}

// Randomly is as Store's, with 500, 503 and broken connections.
func (h *Handler) Randomly(seed uint64, rate float64) { h.randomly(seed, rate, httpFaults()) }

func httpFaults() []Rule {
	return []Rule{
		{Status: http.StatusInternalServerError}, {Status: http.StatusServiceUnavailable}, {Err: ErrBroken},
		{Err: ErrBroken, After: true}, {Status: http.StatusInternalServerError, After: true}, {HalfBody: true},
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rule := h.next(r.Method)
	if rule.Hang {
		_, _ = io.Copy(io.Discard, r.Body) // a server sees that its client left only once the body was read
	}
	if err := rule.begin(r.Context()); err != nil {
		panic(http.ErrAbortHandler)
	}
	fails := rule.Err != nil || rule.Status != 0
	if !fails && !rule.HalfBody {
		h.below.ServeHTTP(w, r)
		return
	}
	done := httptest.NewRecorder()
	if !fails || rule.After {
		h.below.ServeHTTP(done, r)
	}
	switch {
	case rule.Err != nil:
		panic(http.ErrAbortHandler) // closes the connection without an answer
	case rule.Status != 0:
		if rule.Retry != "" {
			w.Header().Set("Retry-After", rule.Retry)
		}
		w.WriteHeader(rule.Status)
		fmt.Fprint(w, "<Error><Code>InjectedFault</Code></Error>")
	default:
		b := done.Body.Bytes()
		for name, values := range done.Header() {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Length", fmt.Sprint(max(len(b), 1))) // also an empty body is cut short
		w.WriteHeader(done.Code)
		_, _ = w.Write(b[:len(b)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// Transport fails as its rules say, and is the transport below otherwise.
type Transport struct {
	script
	below http.RoundTripper
}

// NewTransport wraps below.
func NewTransport(below http.RoundTripper, rules ...Rule) *Transport {
	return &Transport{below: below, script: script{rules: rules}}
}

// Randomly is as Handler's.
func (t *Transport) Randomly(seed uint64, rate float64) { t.randomly(seed, rate, httpFaults()) }

// CloseIdleConnections closes those of the transport below.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.below.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	rule := t.next(req.Method)
	err := rule.begin(req.Context())
	fails := rule.Err != nil || rule.Status != 0
	if err != nil || fails && !rule.After {
		if req.Body != nil {
			_ = req.Body.Close() // a RoundTripper closes it also where it fails
		}
		if err == nil && rule.Err != nil {
			err = rule.Err
		}
		if err != nil {
			return nil, err
		}
		return rule.answer(req), nil
	}
	res, err := t.below.RoundTrip(req)
	switch {
	case err != nil:
		return nil, err
	case fails:
		_ = res.Body.Close() // its fate is the fault
		if rule.Err != nil {
			return nil, rule.Err
		}
		return rule.answer(req), nil
	case rule.HalfBody:
		if res.Body, err = half(res.Body, ErrBroken); err != nil {
			return nil, err
		}
	}
	return res, nil
}

func (r *Rule) answer(req *http.Request) *http.Response {
	w := httptest.NewRecorder()
	if r.Retry != "" {
		w.Header().Set("Retry-After", r.Retry)
	}
	w.WriteHeader(r.Status)
	res := w.Result()
	res.Request = req
	return res
}
