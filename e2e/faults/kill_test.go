// Package faults kills the real programs at random points and checks what the product promises: every listed restpoint
// restores exactly, nothing that is referenced was deleted, nothing leaks for ever.
package faults

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
)

// rounds of kills, all from one seed: the points in time differ by the machine's speed, the order of events does not.
const (
	rounds = 100
	seed   = 20261123
	size   = 48 << 20 // bytes of disk
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBinaries()
	os.Exit(code)
}

type restpoint struct {
	ID       string `json:"id"`
	Sequence uint64 `json:"sequence"`
	State    string `json:"state"`
}

type world struct {
	t    *testing.T
	l    *lab.Lab
	r    *rand.Rand
	disk string
	want map[string]string // restpoint id → SHA-256 of the disk then
	now  string            // SHA-256 of the disk now
}

func TestKillAtRandomPoints(t *testing.T) {
	w := &world{t: t, l: lab.New(t), r: rand.New(rand.NewPCG(seed, 0)), want: map[string]string{}}
	w.disk = w.l.Path("disk.img")
	w.makeDisk()
	w.l.StartAgent(w.l.Token("agent"), w.disk)
	w.l.StartHydrator(w.l.Token("node"))
	w.l.Eventually(time.Minute, "agent enrolled", func() error {
		var machines []struct{ Name string }
		w.l.JSON(&machines, "machines", "ls")
		if len(machines) != 1 {
			return fmt.Errorf("%d machines", len(machines))
		}
		return nil
	})
	// The disk changes between rounds: only a restpoint that was asked for is of one state of it.
	if _, err := w.l.CLI("machines", "set", "web1", "--interval", "-1s"); err != nil {
		t.Fatal(err)
	}
	w.l.JSON(&struct{}{}, "machines", "sync", "web1", "--wait")
	w.learn()

	victims := []string{"agent", "master", "hydrator", "staging", "agent", "staging"}
	for round := range rounds {
		w.change()
		victim := victims[w.r.IntN(len(victims))]
		w.round(round, victim)
		if round%10 == 9 {
			w.checkAll(round)
		}
		if t.Failed() {
			return
		}
	}
	w.checkNothingLeaks()
}

// round asks for a restpoint, kills victim somewhere on the way, starts it again, and expects the restpoint all the same.
func (w *world) round(round int, victim string) {
	w.t.Helper()
	before := w.latest().Sequence
	if _, err := w.l.CLI("machines", "sync", "web1"); err != nil {
		w.t.Fatalf("round %d: %v", round, err)
	}
	time.Sleep(time.Duration(w.r.IntN(600)) * time.Millisecond)
	w.kill(victim)
	w.l.Eventually(2*time.Minute, fmt.Sprintf("round %d: restpoint after %s was killed", round, victim), func() error {
		out, err := w.list()
		if err != nil {
			return err
		}
		if len(out) == 0 || out[0].Sequence <= before {
			return errors.New("no newer restpoint")
		}
		return nil
	})
	w.learn()
	w.restore(w.latest().ID)
}

func (w *world) kill(victim string) {
	w.t.Helper()
	switch victim {
	case "agent":
		w.l.Proc("agent").Kill()
		w.l.StartAgent("", w.disk)
	case "hydrator":
		w.l.Proc("hydrator").Kill()
		w.l.StartHydrator("")
	case "master":
		w.l.Proc("master").Kill()
		w.l.StartMaster()
	case "staging":
		pid, err := w.l.StagingPID()
		if err != nil {
			w.t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) list() ([]restpoint, error) {
	out, err := w.l.CLI("restpoints", "ls", "web1", "-o", "json")
	if err != nil {
		return nil, err
	}
	return decode(out)
}

func (w *world) latest() restpoint {
	w.t.Helper()
	list, err := w.list()
	if err != nil || len(list) == 0 {
		w.t.Fatalf("list restpoints: %d, %v", len(list), err)
	}
	return list[0]
}

// learn notes what the disk holds for every restpoint that is new: the disk stands still while a round runs.
func (w *world) learn() {
	w.t.Helper()
	list, err := w.list()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range list {
		if _, known := w.want[r.ID]; !known {
			w.want[r.ID] = w.now
		}
	}
}

// restore exports a restpoint, sometimes with the exporting process killed first, and compares it with what the disk was.
func (w *world) restore(id string) {
	w.t.Helper()
	to := w.l.Path("copy.img")
	if w.r.IntN(4) == 0 {
		cmd := w.l.Command("restpoints", "export", id, "--disk", "0", "--to", to)
		if err := cmd.Start(); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(time.Duration(w.r.IntN(150)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if _, err := w.l.CLI("restpoints", "export", id, "--disk", "0", "--to", to); err != nil {
		w.t.Fatal(err)
	}
	if got := hash(w.t, to); got != w.want[id] {
		w.t.Fatalf("restpoint %s restores to %s, the disk was %s", id, got, w.want[id])
	}
}

// checkAll restores every listed restpoint onto the same copy, then removes some and collects garbage: what is left
// must still be whole.
func (w *world) checkAll(round int) {
	w.t.Helper()
	list, err := w.list()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range list {
		w.restore(r.ID)
	}
	for i, r := range list {
		if i > 0 && w.r.IntN(2) == 0 {
			if _, err := w.l.CLI("restpoints", "rm", r.ID); err != nil {
				w.t.Fatalf("round %d: %v", round, err)
			}
			delete(w.want, r.ID)
		}
	}
	if _, err := w.l.CLI("staging", "gc"); err != nil {
		w.t.Fatalf("round %d: %v", round, err)
	}
	if out, err := w.l.CLI("staging", "check"); err != nil {
		w.t.Fatalf("round %d: %v\n%s", round, err, out)
	}
}

// checkNothingLeaks removes all but the newest restpoint and expects the bucket to shrink to about what that one needs.
func (w *world) checkNothingLeaks() {
	w.t.Helper()
	list, err := w.list()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range list[1:] {
		if _, err := w.l.CLI("restpoints", "rm", r.ID); err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := w.l.CLI("staging", "gc"); err != nil {
		w.t.Fatal(err)
	}
	if out, err := w.l.CLI("staging", "check"); err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	w.restore(list[0].ID)
	for _, name := range []string{"agent", "hydrator", "master"} {
		if status := w.l.Proc(name).Stop(); status != 0 {
			w.t.Errorf("%s stopped with status %d, want 0", name, status)
		}
	}
}

// makeDisk writes a third of random data, a third of text, and leaves a hole.
func (w *world) makeDisk() {
	w.t.Helper()
	f, err := os.Create(w.disk)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size + 4096); err != nil { // an odd tail
		w.t.Fatal(err)
	}
	w.write(f, 0, size/3, true)
	w.write(f, size/3, size/3, false)
	w.now = hash(w.t, w.disk)
}

// change overwrites a few extents: random, text or zero.
func (w *world) change() {
	w.t.Helper()
	f, err := os.OpenFile(w.disk, os.O_RDWR, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	for range 1 + w.r.IntN(6) {
		off, n := w.r.Int64N(size-1<<20), 1+w.r.Int64N(2<<20)
		n = min(n, size-off)
		if w.r.IntN(5) == 0 {
			if _, err := f.WriteAt(make([]byte, n), off); err != nil {
				w.t.Fatal(err)
			}
			continue
		}
		w.write(f, off, n, w.r.IntN(2) == 0)
	}
	w.now = hash(w.t, w.disk)
}

func (w *world) write(f *os.File, off, n int64, random bool) {
	w.t.Helper()
	b := make([]byte, n)
	if random {
		for i := range b {
			b[i] = byte(w.r.Uint32())
		}
	} else {
		line := fmt.Sprintf("%d the quick brown fox jumps over the lazy dog\n", w.r.Uint64())
		copy(b, strings.Repeat(line, int(n)/len(line)+1))
	}
	if _, err := f.WriteAt(b, off); err != nil {
		w.t.Fatal(err)
	}
}

func hash(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func decode(out []byte) ([]restpoint, error) {
	var list []restpoint
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("decode %q: %w", out, err)
	}
	return list, nil
}
