// Package storetest is the conformance suite of master/store: what the master's state machines rely on, and every
// engine must pass. An engine's test file calls Main from TestMain, because one test runs a copy of the test binary
// and kills it, and Run from a test.
package storetest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/master/store"
)

// Open opens the database that lives in dir, and makes it if there is none. Called again after Close it finds what was written.
type Open func(dir string) (store.Store, error)

// Main runs the tests, or, in the copy of the test binary that the suite starts to kill it, the writer. It fails the run
// when goroutines are left over.
func Main(m *testing.M, open Open) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, writeForever(dir, open))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// Run runs the suite.
func Run(t *testing.T, open Open) {
	tests := []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"GetPutDelete", testGetPutDelete},
		{"Order", testOrder},
		{"ScanRange", testScanRange},
		{"ScanEnds", testScanEnds},
		{"ScanInScan", testScanInScan},
		{"WriteWhileScanning", testWriteWhileScanning},
		{"ReadOwnWrites", testReadOwnWrites},
		{"Isolation", testIsolation},
		{"RollbackOnError", testRollbackOnError},
		{"RollbackOnPanic", testRollbackOnPanic},
		{"Cancel", testCancel},
		{"CancelWhileWaiting", testCancelWhileWaiting},
		{"ConcurrentUpdates", testConcurrentUpdates},
		{"LargeValues", testLargeValues},
		{"Reopen", testReopen},
		{"Kill", testKill},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open) })
	}
}

// opened opens a database in a new folder and closes it when the test ends.
func opened(t *testing.T, open Open) store.Store {
	t.Helper()
	s, err := open(t.TempDir())
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func update(t *testing.T, s store.Store, fn func(store.Writer) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t *testing.T, s store.Store, fn func(store.Reader) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// put writes key=value pairs into table "t".
func put(t *testing.T, s store.Store, pairs ...string) {
	t.Helper()
	update(t, s, func(w store.Writer) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := w.Put("t", []byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
}

// scan collects the keys of a scan of table "t".
func scan(r store.Reader, prefix, from []byte) ([]string, error) {
	var keys []string
	err := r.Scan("t", prefix, from, func(k, _ []byte) error {
		keys = append(keys, string(k))
		return nil
	})
	return keys, err
}
