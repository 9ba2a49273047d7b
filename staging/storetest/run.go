// Package storetest runs storecheck, what every staging.Store must keep, as tests.
package storetest

import (
	"testing"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/storecheck"
)

// Options size a run.
type Options = storecheck.Options

// Factory makes an empty store, and says how its signed URLs are reached; it cleans up through t.
type Factory func(t *testing.T) (staging.Store, *Options)

// Run is storecheck.Check as subtests of t.
func Run(t *testing.T, factory Factory) {
	t.Helper()
	store, opts := factory(t)
	storecheck.Check(t.Context(), store, "check/", opts, func(r storecheck.Result) {
		t.Run(r.Name, func(t *testing.T) {
			if r.Err != nil {
				t.Error(r.Err)
			}
		})
	})
}
