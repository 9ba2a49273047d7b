package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/openmigrate/openmigrate/wire"
)

// TestNothingIsAnsweredToTheRevoked: a handler that had its answer ready when the caller was shut out must keep it.
func TestNothingIsAnsweredToTheRevoked(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(wire.NewProblem(http.StatusForbidden, wire.CodeRevoked, "stolen"))
	for name, answer := range map[string]func(*call) error{
		"json":   func(c *call) error { return c.answer(http.StatusOK, wire.Assignment{Keys: []byte("secret")}) },
		"binary": func(c *call) error { return c.binary([]byte("secret")) },
	} {
		rec := httptest.NewRecorder()
		err := answer(&call{ctx: ctx, w: rec})
		wantCode(t, name, err, wire.CodeRevoked)
		if rec.Body.Len() != 0 {
			t.Errorf("%s: %q got out", name, rec.Body)
		}
	}
}
