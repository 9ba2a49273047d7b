package storetest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/master/store"
)

func testReopen(t *testing.T, open Open) {
	dir := t.TempDir()
	for i := range 5 {
		s, err := open(dir)
		if err != nil {
			t.Fatalf("open again: %v", err)
		}
		view(t, s, func(r store.Reader) error {
			keys, err := scan(r, nil, nil)
			if len(keys) != i {
				t.Errorf("%d keys at opening %d", len(keys), i)
			}
			return err
		})
		put(t, s, fmt.Sprint(i), "x")
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

// childEnv names the folder of the database that a copy of the test binary writes to until it is killed.
const childEnv = "OPENMIGRATE_STORETEST_DIR"

// tables is how many tables each transaction of the writer writes to.
const tables = 3

func testKill(t *testing.T, open Open) {
	dir := t.TempDir()
	next := uint64(0)
	for _, acks := range []int{1, 7, 40, 3, 90} {
		last := killAfter(t, dir, acks)
		s, err := open(dir)
		if err != nil {
			t.Fatalf("open after kill: %v", err)
		}
		count := checkWritten(t, s)
		if count < last+1 || count < next+uint64(acks) {
			t.Errorf("%d transactions are there after %d was acknowledged and %d were there before", count, last, next)
		}
		next = count
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

// killAfter starts the writer, kills it without warning when it has acknowledged that many transactions, and returns the
// number of the last one acknowledged.
func killAfter(t *testing.T, dir string, acks int) uint64 {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var last uint64
	seen := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		// What was written to the pipe before the kill counts as acknowledged, too.
		if last, err = strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 64); err != nil {
			t.Errorf("writer said %q: %v", lines.Text(), err)
		}
		if seen++; seen == acks {
			if err := cmd.Process.Kill(); err != nil {
				t.Errorf("kill: %v", err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || seen < acks {
		t.Fatalf("writer ended by itself after %d transactions: %v", seen, err)
	}
	return last
}

// checkWritten counts the transactions in the database and checks that each is whole.
func checkWritten(t *testing.T, s store.Store) uint64 {
	t.Helper()
	var count uint64
	view(t, s, func(r store.Reader) error {
		for i := range tables {
			n := uint64(0)
			err := r.Scan(fmt.Sprint("t", i), nil, nil, func(k, v []byte) error {
				if binary.BigEndian.Uint64(k) != n || len(v) != valueSize(n) {
					return fmt.Errorf("table %d: key %x with %d bytes where %d belongs", i, k, len(v), n)
				}
				n++
				return nil
			})
			if err != nil {
				return err
			}
			if i > 0 && n != count {
				t.Errorf("table %d has %d rows, table 0 has %d: a transaction is there in part", i, n, count)
			}
			count = n
		}
		return nil
	})
	return count
}

func valueSize(n uint64) int { return int(n * 2654435761 % 6000) }

// writeForever continues the sequence of transactions that it finds and prints the number of each when it is durable. It
// returns only with an error.
func writeForever(dir string, open Open) error {
	s, err := open(dir)
	if err != nil {
		return err
	}
	for {
		var n uint64
		err := s.Update(context.Background(), func(w store.Writer) error {
			n = 0
			v, err := w.Get("next", []byte("n"))
			if err == nil {
				n = binary.BigEndian.Uint64(v)
			} else if !errors.Is(err, store.ErrNotFound) {
				return err
			}
			for i := range tables {
				if err := w.Put(fmt.Sprint("t", i), binary.BigEndian.AppendUint64(nil, n), make([]byte, valueSize(n))); err != nil {
					return err
				}
			}
			return w.Put("next", []byte("n"), binary.BigEndian.AppendUint64(nil, n+1))
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}
