//go:build e2e

package story

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/vm"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/wire"
)

// overhead is what a cutover may take beyond the boot of the machine.
const overhead = 15 * time.Second

// TestStoryBIOS is the whole story of a server: tried, tried from older restpoints, moved, taken back, and moved for good.
func TestStoryBIOS(t *testing.T) {
	roottest.Need(t, "making and mounting disk images")
	s := startSource(t, ifupdown, vm.BIOS)
	points := []restpoint{s.sync()}
	points = append(points, s.sync())

	s.unconverted(points[1])
	s.testLaunch(points[1])
	points = append(points, s.sync())
	s.rollbacks(points)
	s.revertCutover(s.cutover("virtio-blk"))
	s.finalize(s.cutover("nvme"))
}

// TestStoryUEFI moves a server that starts from UEFI.
func TestStoryUEFI(t *testing.T) {
	roottest.Need(t, "making and mounting disk images")
	s := startSource(t, networkd, vm.UEFI)
	s.sync()
	s.revertCutover(s.cutover("nvme"))
	s.finalize(s.cutover("virtio-blk"))
}

// testLaunch tries the server while it serves.
func (s *source) testLaunch(p restpoint) {
	t := s.t
	began := time.Now()
	l := s.launch(wire.LaunchTest, "virtio-blk", p.ID)
	i := l.wait(wire.LaunchRunning)
	check(t, l.rows(i), p.low, p.high)
	for _, c := range i.Checks {
		if !c.Passed {
			t.Errorf("check %s: %s", c.Kind, c.Message)
		}
	}
	if !i.Screenshot {
		t.Error("no screenshot")
	}
	// Replication goes on beside it.
	s.waitWrites("the source goes on", time.Now())
	s.sync()
	longest, median := s.counter.pauses(s.boot, began)
	t.Logf("between two commits of the source %v at most, %v as a rule", longest.Round(time.Millisecond), median.Round(time.Millisecond))
	l.revert()
	if heard := s.counter.others(s.boot); len(heard) > 0 {
		t.Errorf("the copy reached the source's network: boots %v reported", heard)
	}
	s.life(wire.LifeReadyForCutover)
}

// unconverted starts the disks as they are, which cannot come up on another bus, and is told why.
func (s *source) unconverted(p restpoint) {
	tmpl := template("virtio-blk")
	tmpl.AsIs = true
	l := s.ask(wire.LaunchRequest{Kind: wire.LaunchTest, Machine: name, Restpoint: p.ID, Template: tmpl})
	i := l.wait(wire.LaunchFailed)
	f := i.Failure
	if f == nil || f.Step != wire.LaunchChecking || !strings.Contains(f.Cause, "/dev/sda3") || !strings.Contains(f.Console, "ALERT!") {
		s.t.Errorf("the failure is %+v", f)
	} else {
		s.t.Logf("failed: %s; likely cause: %s", f.Reason, f.Cause)
	}
	s.nothingLeft()
}

// rollbacks starts each restpoint.
func (s *source) rollbacks(points []restpoint) {
	for _, p := range points {
		l := s.launch(wire.LaunchTest, "nvme", p.ID)
		check(s.t, l.rows(l.wait(wire.LaunchRunning)), p.low, p.high)
		l.revert()
	}
}

// cutover moves the server, and makes sure that no commit is lost and how long nobody served.
func (s *source) cutover(bus string) *launched {
	t := s.t
	s.waitWrites("the source serves", time.Now())
	known := append(s.counter.others(), s.boot)
	l := s.launch(wire.LaunchCutover, bus, "")
	target, first := s.bootOf(known...)
	i := l.wait(wire.LaunchRunning)
	last := s.counter.last(s.boot)
	check(t, l.rows(i), last.n, last.n+1)
	down, boot := first.at.Sub(last.at), first.at.Sub(step(i, wire.LaunchStarting))
	t.Logf("%s: nobody served for %.1f s, of which the machine took %.1f s to start and serve: %.1f s more", bus, down.Seconds(), boot.Seconds(), (down - boot).Seconds())
	if down > boot+overhead {
		t.Errorf("nobody served for %v, with a boot of %v: more than %v beyond it", down, boot, overhead)
	}
	if heard := s.counter.others(append(known, target)...); len(heard) > 0 {
		t.Errorf("there are more machines than one: %v", heard)
	}
	s.life(wire.LifeLive)
	return l
}

// revertCutover takes a cutover back: the source serves again.
func (s *source) revertCutover(l *launched) {
	t := s.t
	before := s.counter.last(s.boot)
	l.revert()
	s.waitWrites("the source serves again", before.at)
	if all := s.counter.of(s.boot); !slices.IsSortedFunc(all, func(a, b ack) int { return int(a.n - b.n) }) {
		t.Error("the source counted backwards")
	}
	out := s.Shell(limit(t), "runuser -u postgres -- psql -XqAt -F ' ' -d story -c 'SELECT count(*), count(DISTINCT id), max(id), count(DISTINCT boot) FROM commits'")
	f := strings.Fields(out)
	if len(f) != 4 || f[0] != f[1] || f[1] != f[2] || f[3] != "1" {
		t.Errorf("the source has count, distinct, last, boots %v", f)
	} else if n, err := strconv.ParseInt(f[0], 10, 64); err != nil || n < before.n {
		t.Errorf("the source has %s rows, and had acknowledged %d", f[0], before.n)
	}
	s.life(wire.LifeRolledBack)
	s.sync()
}

// finalize ends a move.
func (s *source) finalize(l *launched) {
	if _, err := s.lab.CLI("launch", "finalize", l.id); err != nil {
		s.t.Error(err)
	}
	l.wait(wire.LaunchFinalized)
	s.life(wire.LifeFinalized)
}
