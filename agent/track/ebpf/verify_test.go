package ebpf_test

import (
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/internal/pgtest"
)

// verifier compares marks with what changed, epoch by epoch.
type verifier struct {
	before   image
	deferred map[int64]bool // changed while the image was read: must be marked in the epoch after
	head     int64          // bytes at the disk's start that are written under a freeze, too
	discards *discards      // nil where they cannot be seen
	changed  int
	marked   int64
	missed   int
	written  int64 // bytes that are marked and did not change, without those that were discarded in this epoch or the one before
	grain    int64
}

func (v *verifier) check(t *testing.T, after image, m *track.Marks) {
	t.Helper()
	for i := range v.deferred {
		if !marked(m, i) {
			v.missed++
			t.Errorf("grain %d was changed while the epoch ended, and is not marked in the next", i)
		}
	}
	v.deferred = map[int64]bool{}
	changed := after.changed(v.before)
	v.grain = m.Grain()
	v.changed += len(changed)
	v.marked += (m.Bytes() + m.Grain() - 1) / m.Grain()
	needed := track.NewMarks(m.Size(), m.Grain())
	for _, i := range changed {
		needed.Add(i*m.Grain(), 1)
		switch {
		case marked(m, i):
		case after.sums[i] == 0 || i*after.grain < v.head: // fstrim does not stop for a freeze
			v.deferred[i] = true
		default:
			v.missed++
			t.Errorf("grain %d changed and is not marked", i)
		}
	}
	if v.discards != nil {
		discarded := v.discards.drain(t, m.Grain())
		for i := range m.Words() {
			v.written += int64(bits.OnesCount64(m.Word(i)&^needed.Word(i)&^discarded.Word(i))) * m.Grain()
		}
	}
	v.before = after
}

// report says what was seen. Excess is what is marked and did not change, in bytes and as part of all that is marked; next to it what of
// that, and of the marks, is not from discards.
func (v *verifier) report(t *testing.T, n int) {
	t.Logf("%d epochs: %d changed, %d marked, %d missed", n, v.changed, v.marked, v.missed)
	changed, marked := int64(v.changed)*v.grain, v.marked*v.grain
	t.Logf("excess: %d bytes, %.1f %% of what is marked", marked-changed, percent(marked-changed, marked))
	if v.discards != nil {
		t.Logf("excess without what discards marked: %d bytes, %.1f %% of what is marked without", v.written, percent(v.written, v.written+changed))
	}
}

func percent(a, b int64) float64 { return 100 * float64(a) / float64(max(b, 1)) }

// database is a PostgreSQL that clients commit to.
type database struct{ load *pgtest.Load }

// withoutEnv names what a machine under test has not: "postgres".
const withoutEnv = "OPENMIGRATE_TORTURE_WITHOUT"

// startAll starts PostgreSQL under load, and then every kind of writer: beside them its start takes long.
func startAll(t *testing.T, dir string) *database {
	t.Helper()
	db := startDatabase(t, dir)
	startWriters(t, dir)
	return db
}

func startDatabase(t *testing.T, dir string) *database {
	t.Helper()
	killed := strings.Contains(t.Name(), "Killed") // the short form must stay short
	if strings.Contains(os.Getenv(withoutEnv), "postgres") || killed && os.Getenv(epochsEnv) == "" {
		return nil
	}
	for d := dir; d != "/"; d = filepath.Dir(d) { // t.TempDir makes folders that others cannot go through
		st, err := os.Stat(d)
		if err == nil && st.Mode().Perm()&1 == 0 {
			err = os.Chmod(d, st.Mode().Perm()|0o11)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s := pgtest.New(t, filepath.Join(dir, "postgres"))
	s.Init("--wal-segsize=4")
	s.Start("min_wal_size=8MB", "max_wal_size=24MB")
	db := &database{s.StartLoad(3)}
	t.Cleanup(func() {
		db.load.Stop()
		s.Stop()
	})
	return db
}

// report fails the test when a client of the database did not get on.
func (d *database) report(t *testing.T, n int) {
	if d == nil {
		return
	}
	committed := d.load.Committed()
	var sum int64
	for _, c := range committed {
		sum += c
	}
	if sum < int64(n) {
		t.Errorf("the clients of PostgreSQL committed %d times in %d epochs", sum, n)
	}
	t.Logf("PostgreSQL: %v commits by its clients", committed)
}
