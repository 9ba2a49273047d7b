package lab

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/qemu"
	"github.com/openmigrate/openmigrate/wire"
)

// Client speaks to the master that runs now as the operator's tools do. The caller ends its connections with hangUp.
func (l *Lab) Client() (c *apiclient.Client, hangUp func()) {
	l.t.Helper()
	b, err := os.ReadFile(l.Env("OPENMIGRATE_CA_FILE"))
	if err != nil {
		l.t.Fatal(err)
	}
	ca, _ := pem.Decode(b)
	if ca == nil {
		l.t.Fatal("the CA's file holds no certificate")
	}
	w, err := wire.NewClient(wire.ClientOptions{URL: l.Env("OPENMIGRATE_URL"), CA: ca.Bytes, Token: l.Env("OPENMIGRATE_TOKEN")})
	if err != nil {
		l.t.Fatal(err)
	}
	return apiclient.New(w), w.Close
}

// EndMachines ends what launches left running under QEMU, or gave away, in a provider's folder: machines outlive their master.
func EndMachines(t testing.TB, dir string) {
	machines, err := os.ReadDir(filepath.Join(dir, "instances"))
	if err != nil {
		return // none was ever made
	}
	p, err := qemu.Open(qemu.Options{Dir: dir, Accel: "tcg"})
	if err != nil {
		t.Error(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var failed error
	for _, m := range machines {
		err := p.TerminateInstance(ctx, m.Name())
		if err == nil {
			_, err = providers.AwaitInstance(ctx, p, m.Name(), providers.StateTerminated, 200*time.Millisecond)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("end machine %s: %w", m.Name(), err))
		}
	}
	if err := errors.Join(failed, p.Close()); err != nil {
		t.Error(err)
	}
}
