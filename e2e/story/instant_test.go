//go:build e2e

package story

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/wire"
)

// The large disk of TestInstant: its size, and how much of it holds what cannot be compressed.
const (
	largeSize = 20 << 30
	largeData = 8 << 30
)

// TestInstant starts a server with a large disk in both ways: after all of it was written, and from staging with the rest behind it.
func TestInstant(t *testing.T) {
	roottest.Need(t, "making and mounting disk images")
	disks := sourceDisks(t, ifupdown)
	large := filepath.Join(t.TempDir(), "large.img")
	makeLarge(t, large)
	// The agent runs on this host and reads files: how they got to staging is not what is measured.
	s := &source{t: t, lab: startLab(t)}
	s.lab.StartAgent(s.lab.Token("agent"), disks[0].Path, disks[1].Path, large)
	const machine = "web1" // as the lab calls it
	s.lab.Eventually(time.Minute, "agent enrolled", func() error {
		var list []struct{ Name string }
		if s.lab.JSON(&list, "machines", "ls"); len(list) != 1 {
			return fmt.Errorf("machines %v", list)
		}
		return nil
	})
	began := time.Now()
	if out, err := s.lab.Command("machines", "sync", machine, "--wait").CombinedOutput(); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	t.Logf("replicated in %.0f s", time.Since(began).Seconds())

	// Proofs of what was sent go on behind any launch. Here the two ways are compared, and only one would have them beside it.
	s.lab.Eventually(launchLimit, "all packs are proven", func() error {
		for _, j := range call(s, func(ctx context.Context, c *apiclient.Client) ([]wire.JobInfo, error) { return c.Jobs(ctx) }) {
			if j.Ended.IsZero() {
				return fmt.Errorf("job %s (%s) is %s", j.ID, j.Kind, j.State)
			}
		}
		return nil
	})

	// A quarter of an hour for each.
	took := map[bool]time.Duration{}
	for _, instant := range []bool{true, false} {
		tmpl := template("virtio-blk")
		tmpl.Instant, tmpl.Firmware = instant, "bios"
		// What answers first counts, and not what is checked after it.
		tmpl.Checks = tmpl.Checks[:1]
		began := time.Now()
		l := s.ask(wire.LaunchRequest{Kind: wire.LaunchTest, Machine: machine, Template: tmpl})
		i := l.wait(wire.LaunchRunning)
		took[instant] = time.Since(began)
		t.Logf("instant %v: answers after %.1f s (%s)", instant, took[instant].Seconds(), steps(i))
		if v := l.rows(i); v.Count != v.Distinct {
			t.Errorf("rows are there twice: %+v", v)
		}
		if instant {
			s.filled(l)
		}
		l.revert()
	}
	if took[true] > took[false]/2 {
		t.Errorf("an instant start took %v, and a start after all was written %v: more than half of it", took[true], took[false])
	}
}

// filled waits until nothing is read from staging any more, and asks the machine again.
func (s *source) filled(l *launched) {
	s.t.Helper()
	began := time.Now()
	s.lab.Eventually(launchLimit, "volumes are filled", func() error {
		for _, line := range l.info().Log {
			if strings.HasPrefix(line.Message, "all data is there") {
				return nil
			}
		}
		return errors.New("the log does not say so")
	})
	s.t.Logf("independent of staging after another %.1f s", time.Since(began).Seconds())
	if v := l.rows(l.info()); v.Count != v.Distinct || v.Count == 0 {
		s.t.Errorf("after the switch: %+v", v)
	}
}

// makeLarge writes a sparse file whose first part cannot be compressed.
func makeLarge(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	random := mrand.NewChaCha8(seed)
	b := make([]byte, 1<<20)
	for at := int64(0); at < largeData; at += int64(len(b)) {
		_, _ = random.Read(b) // never fails
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(largeSize); err != nil {
		t.Fatal(err)
	}
}
