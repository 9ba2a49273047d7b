//go:build e2e

// Package story moves whole servers: a Debian machine with PostgreSQL under a steady writer, which runs in QEMU and has the agent installed as an operator
// would, is replicated while it serves, tried at the target, and moved there and back. Outside of all machines a counter keeps what was
// committed, so a lost write is seen whatever the machines say.
//
// The source starts on virtio-scsi only (see tune), its network card is called by its name, and its data is on a logical volume of a second disk.
package story

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/e2e/vm"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBinaries()
	os.Exit(code)
}

// limit bounds some commands in a machine. An emulated one on a busy host takes minutes for what takes seconds.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// source is a server that is replicated.
type source struct {
	*vm.Machine
	t       *testing.T
	lab     *lab.Lab
	counter *counter
	boot    string // its id
}

// name is the machine's at the master.
const name = "shop"

// startSource starts a server with its writer, and the installation that it is replicated by, in which the agent enrolls.
func startSource(t *testing.T, network string, firmware vm.Firmware) *source {
	t.Helper()
	disks := sourceDisks(t, network)
	staging := freePort(t)
	s := &source{t: t, counter: newCounter(t)}
	s.lab = startLab(t, "--staging-listen", "127.0.0.1:"+strconv.Itoa(staging))
	master := lab.Port(t, s.lab.Addr)
	o := hardware(firmware)
	o.Images = disks[1:]
	o.HostPorts = []int{master, staging, s.counter.port}
	s.Machine = vm.Start(t, disks[0], o)
	t.Logf("the source is up after %.0f s", s.WaitBoot().Seconds())
	ctx := limit(t)
	// Master, staging and command line have one name for each other, which certificates have, too.
	s.Forward(ctx, master)
	s.Forward(ctx, staging)
	// The source reaches the counter by one address; a copy that is let out of its network would by the other.
	put(t, s.Machine, "/etc/default/story", fmt.Sprintf("COUNTERS=%s:%d,10.0.2.2:%[2]d\n", vm.HostAddr, s.counter.port))
	s.Shell(ctx, "chmod 644 /etc/default/story; systemctl restart story-server")
	s.boot = strings.TrimSpace(s.Shell(ctx, "cat /proc/sys/kernel/random/boot_id"))
	s.waitWrites("the writer writes", time.Now())
	s.install()
	return s
}

// install puts the agent into the machine.
func (s *source) install() {
	s.t.Helper()
	ctx := limit(s.t)
	for _, f := range []struct {
		from, to string
		mode     os.FileMode
	}{
		{filepath.Join(s.lab.Bin, "openmigrate-agent"), "/usr/local/sbin/openmigrate-agent", 0o755},
		{filepath.Join(lab.Root(), "packaging/systemd/openmigrate-agent.service"), "/etc/systemd/system/openmigrate-agent.service", 0o644},
	} {
		if err := s.Put(ctx, f.from, f.to, f.mode); err != nil {
			s.t.Fatal(err)
		}
	}
	put(s.t, s.Machine, "/etc/openmigrate/agent.env", "OPENMIGRATE_ENROLL_TOKEN='"+s.lab.Token("agent")+"'\n")
	s.Shell(ctx, "hostname "+name+"; echo "+name+" >/etc/hostname; systemctl enable --now openmigrate-agent")
	s.lab.Eventually(3*time.Minute, "agent enrolled", func() error {
		var list []struct{ Name string }
		if s.lab.JSON(&list, "machines", "ls"); len(list) != 1 || list[0].Name != name {
			return fmt.Errorf("machines %v\n%s", list, s.journal())
		}
		return nil
	})
}

// journal is what the agent said last.
func (s *source) journal() string {
	r, err := s.Run(limit(s.t), "journalctl", "-n30", "--no-pager", "-u", "openmigrate-agent")
	return strings.Join([]string{string(r.Stdout), fmt.Sprint(err)}, "")
}

// waitWrites waits until the source has committed something after a moment.
func (s *source) waitWrites(what string, after time.Time) {
	s.t.Helper()
	s.lab.Eventually(3*time.Minute, what, func() error {
		if a := s.counter.last(s.boot); !a.at.After(after) {
			return fmt.Errorf("last ack %d at %v", a.n, a.at)
		}
		return nil
	})
}

// restpoint is one, with what was committed before it was asked for and after it was there.
type restpoint struct {
	ID, Consistency string
	Disks           []struct{ Tracker string }

	low, high int64
}

// stallLimit is how long a cycle may show no progress.
const stallLimit = 4 * time.Minute

// sync makes a restpoint and waits for as long as that gets on.
func (s *source) sync() restpoint {
	s.t.Helper()
	began, low := time.Now(), s.counter.last(s.boot).n
	s.await("sync", "machines", "sync", name, "--wait")
	var list []restpoint
	if s.lab.JSON(&list, "restpoints", "ls", name); len(list) == 0 {
		s.t.Fatal("no restpoint")
	}
	p := list[0]
	// What is on its way when the freeze ends counts as well.
	p.low, p.high = low, s.counter.last(s.boot).n+1
	longest, median := s.counter.pauses(s.boot, began)
	s.t.Logf("restpoint %s (%s) in %.0f s, with %d to %d rows; between two commits %v at most, %v as a rule", p.ID, p.Consistency, time.Since(began).Seconds(),
		p.low, p.high, longest.Round(time.Millisecond), median.Round(time.Millisecond))
	return p
}

// await runs a command that waits for something, and gives it up when neither the machine nor its launches show any progress.
func (s *source) await(what string, args ...string) {
	s.t.Helper()
	cmd := s.lab.Command(args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	look := time.NewTicker(2 * time.Second)
	defer look.Stop()
	var last string
	for moved := time.Now(); ; {
		select {
		case err := <-done:
			if err != nil {
				s.t.Fatalf("%s: %v\n%s\n%s", what, err, said.String(), s.journal())
			}
			return
		case <-look.C:
		}
		var now struct {
			Progress, Report json.RawMessage
			Restpoints       int
		}
		s.lab.JSON(&now, "machines", "show", name)
		if text := fmt.Sprintf("%s %s %d", now.Progress, now.Report, now.Restpoints); text != last {
			last, moved = text, time.Now()
		}
		if time.Since(moved) > stallLimit {
			_ = cmd.Process.Kill()
			s.t.Fatalf("%s: nothing moved for %v (%v): %s\n%s", what, stallLimit, <-done, last, said.String())
		}
	}
}

// rows is what a server's table holds.
type rows struct {
	Boot                                 string
	Count, Distinct, First, Last, Before int64
	LastThere                            int64 `json:"last_there"`
}

// ask asks a server over HTTP.
func ask(ctx context.Context, endpoint string) (v rows, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+endpoint+"/", nil)
	if err != nil {
		return v, err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(q)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return v, errors.New(resp.Status)
	}
	return v, json.NewDecoder(resp.Body).Decode(&v)
}

// check makes sure that a copy has all that the source had committed, once each, and nothing of what it committed later.
func check(t *testing.T, v rows, low, high int64) {
	t.Helper()
	t.Logf("the copy has %d rows, %d of them the source's; %d to %d were expected", v.Count, v.Before, low, high)
	if v.Count != v.Distinct || v.First != 1 || v.Last != v.Count {
		t.Errorf("rows are missing or there twice: %+v", v)
	}
	if v.Before != v.LastThere || v.Before < low || v.Before > high {
		t.Errorf("the source's rows: %+v, want %d to %d", v, low, high)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
