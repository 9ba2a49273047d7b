package qemu

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/providertest"
)

func TestMain(m *testing.M) {
	if os.Getenv(ownerEnv) != "" {
		os.Exit(owner())
	}
	goleak.VerifyTestMain(m)
}

// open opens a provider for a test, with the acceleration that works everywhere. Its machines end with the test.
func open(t *testing.T, o Options) *Provider {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Accel == "" {
		o.Accel = "tcg"
	}
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		endMachines(t, o.Dir)
	})
	return p
}

func TestConformance(t *testing.T) {
	t.Parallel()
	p := open(t, Options{})
	providertest.Run(t, p, &providertest.Options{Pause: 5 * time.Millisecond, Timeout: time.Minute, Stories: 4})
}

var _ providers.LazyVolumes = (*Provider)(nil)
