//go:build e2e

package story

import (
	"encoding/json"
	"os"
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
	for len(points) < 5 {
		points = append(points, s.sync())
	}
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

// A test launch beside a source that has a schedule: how often restpoints begin, how old the newest may become (a cycle starts late by what the one before it takes),
// and by how much commits may be apart beyond what they were before: the agent's budget for a freeze.
const (
	testInterval = 30 * time.Second
	testRPO      = 2 * testInterval
	freezeBudget = 500 * time.Millisecond
)

// interval sets the source's schedule; a negative one: restpoints are made when asked for.
func (s *source) interval(d time.Duration) {
	s.t.Helper()
	if _, err := s.lab.CLI("machines", "set", name, "--interval", d.String()); err != nil {
		s.t.Fatal(err)
	}
}

// watchRPO looks at the age of the newest restpoint until the function that it returns is called, which returns the greatest.
func (s *source) watchRPO() func() time.Duration {
	var greatest time.Duration
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		look := time.NewTicker(time.Second)
		defer look.Stop()
		for {
			select {
			case <-stop:
				return
			case <-look.C:
			}
			var m wire.MachineInfo
			out, err := s.lab.CLI("machines", "show", name, "-o", "json")
			if err == nil {
				err = json.Unmarshal(out, &m)
			}
			if err != nil {
				s.t.Error(err)
				return
			}
			greatest = max(greatest, time.Duration(m.RPO.Now))
		}
	}()
	return func() time.Duration {
		close(stop)
		<-done
		return greatest
	}
}

// testLaunch tries the server while it serves.
func (s *source) testLaunch(p restpoint) {
	t := s.t
	s.interval(testInterval)
	defer s.interval(-time.Second)
	s.sync()
	alone, usual := s.counter.pauses(s.boot, time.Now().Add(-testInterval))
	kept := s.watchRPO()
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
	// Replication went on beside it.
	s.waitWrites("the source goes on", time.Now())
	longest, median := s.counter.pauses(s.boot, began)
	t.Logf("between two commits of the source %v at most, %v as a rule; before the launch %v and %v", longest.Round(time.Millisecond), median.Round(time.Millisecond),
		alone.Round(time.Millisecond), usual.Round(time.Millisecond))
	if longest > alone+freezeBudget {
		t.Errorf("between two commits of the source there were %v, and before the launch %v at most", longest, alone)
	}
	if age := kept(); age > testRPO {
		t.Errorf("the newest restpoint was %v old while the launch ran, and is to be %v at most", age, testRPO)
	} else {
		t.Logf("the newest restpoint was %v old at most while the launch ran; %v was the aim", age.Round(time.Second), testRPO)
	}
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

// TestCutovers moves servers and takes them back again and again: OPENMIGRATE_CUTOVERS times to each bus, once unless it is set.
func TestCutovers(t *testing.T) {
	roottest.Need(t, "making and mounting disk images")
	rounds := 1
	if text := os.Getenv("OPENMIGRATE_CUTOVERS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("OPENMIGRATE_CUTOVERS is %q: how many", text)
		}
		rounds = n
	}
	for _, from := range []struct {
		network  string
		firmware vm.Firmware
	}{{ifupdown, vm.BIOS}, {networkd, vm.UEFI}} {
		t.Run(string(from.firmware), func(t *testing.T) {
			s := startSource(t, from.network, from.firmware)
			s.sync()
			for range rounds {
				for _, bus := range []string{"virtio-blk", "nvme"} {
					s.revertCutover(s.cutover(bus))
				}
			}
		})
	}
}
