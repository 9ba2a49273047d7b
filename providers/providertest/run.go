// Package providertest runs providercheck, what every providers.Provider must keep, as tests.
package providertest

import (
	"testing"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/providercheck"
)

// Options size a run.
type Options = providercheck.Options

// Run is providercheck.Check as subtests of t.
func Run(t *testing.T, p providers.Provider, opts *Options) {
	t.Helper()
	providercheck.Check(t.Context(), p, opts, func(r providercheck.Result) {
		t.Run(r.Name, func(t *testing.T) {
			t.Logf("took %v", r.Took)
			switch {
			case r.Err != nil:
				t.Error(r.Err)
			case r.Skipped != "":
				// The provider's capabilities rule it out, and other providers run it: this is no test that could pass here.
				t.Log(r.Skipped)
			}
		})
	})
}
