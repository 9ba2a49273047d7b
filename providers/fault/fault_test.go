package fault_test

import (
	"errors"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/fault"
	"github.com/openmigrate/openmigrate/providers/memprovider"
	"github.com/openmigrate/openmigrate/providers/providertest"
)

func TestConformanceWithoutRules(t *testing.T) {
	providertest.Run(t, fault.New(memprovider.New(nil)), &providertest.Options{Pause: time.Microsecond})
}

func TestRules(t *testing.T) {
	for name, c := range map[string]struct {
		rule  fault.Rule
		want  []error // of three creates
		there int     // after the first
	}{
		"first":             {fault.Rule{Op: "CreateVolume", Err: providers.ErrQuota}, []error{providers.ErrQuota, nil, nil}, 0},
		"after the work":    {fault.Rule{After: true}, []error{providers.ErrTryAgain, nil, nil}, 1},
		"second and third":  {fault.Rule{Op: "CreateVolume", Nth: 2, Times: 2}, []error{nil, providers.ErrTryAgain, providers.ErrTryAgain}, 1},
		"all":               {fault.Rule{Op: "CreateVolume", Times: -1, Err: providers.ErrDenied}, []error{providers.ErrDenied, providers.ErrDenied, providers.ErrDenied}, 0},
		"of another method": {fault.Rule{Op: "DeleteVolume"}, []error{nil, nil, nil}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			below := memprovider.New(nil)
			p := fault.New(below, c.rule)
			spec := providers.VolumeSpec{Meta: providers.Meta{Token: "t", Owner: providers.Owner{System: "s", Launch: "l"}}, Size: 512}
			for i, want := range c.want {
				if _, err := p.CreateVolume(t.Context(), spec); !errors.Is(err, want) {
					t.Errorf("create %d: %v, want %v", i+1, err, want)
				}
				if all, err := below.List(t.Context(), "s"); i == 0 && (err != nil || len(all) != c.there) {
					t.Errorf("%d are there after the first: %v", len(all), err)
				}
			}
			if n := p.Calls("CreateVolume"); n != 3 {
				t.Errorf("%d calls counted", n)
			}
		})
	}
}
