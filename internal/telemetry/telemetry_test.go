package telemetry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

const id = "434611c79174b5be1499644ee2d07aac"

func TestRoots(t *testing.T) {
	root := RootOf(id)
	if !root.IsValid() || root.TraceID().String() != id || !root.Equal(RootOf(id)) {
		t.Errorf("%v", root)
	}
	for _, no := range []string{"", "x", "00000000000000000000000000000000", id + "00"} {
		if RootOf(no).IsValid() {
			t.Errorf("%q has a trace", no)
		}
		if ctx := Under(context.Background(), no); trace.SpanContextFromContext(ctx).IsValid() {
			t.Errorf("%q has spans under it", no)
		}
		if _, ok := Rooted(Root(context.Background(), no)); ok {
			t.Errorf("%q has a root", no)
		}
	}
	if s, ok := Rooted(Root(Under(context.Background(), id), id)); !ok || !s.Equal(root) {
		t.Errorf("the root is %v", s)
	}
}

// Without an exporter nothing is recorded, and the caller's span is passed on all the same.
func TestPassesOn(t *testing.T) {
	var got string
	h := Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		out := http.Header{}
		Inject(r.Context(), out)
		got = out.Get("traceparent")
	}), func(*http.Request) string { return "agent" })
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	h.ServeHTTP(httptest.NewRecorder(), r)
	if got != "" {
		t.Errorf("a request without a span got %q", got)
	}
	Inject(Under(context.Background(), id), r.Header)
	h.ServeHTTP(httptest.NewRecorder(), r)
	if want := r.Header.Get("traceparent"); got != want || want == "" {
		t.Errorf("%q was passed on as %q", want, got)
	}
	for _, bad := range []string{"x", "00-" + id, "ff-" + id + "-1234567890123456-01"} {
		r.Header.Set("traceparent", bad)
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got != "" {
			t.Errorf("%q was taken for %q", bad, got)
		}
	}
}
