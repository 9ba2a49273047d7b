// Package live replicates a file system that is written to, with the real programs, and checks that what comes back could be started from.
package live

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/internal/pgtest"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBinaries()
	os.Exit(code)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// recordSize: number u64, random bytes, CRC-32 of both.
const recordSize = 512

// journal appends records, each durable before the next, as a database does. It counts those that are durable.
type journal struct {
	durable atomic.Uint64
	stop    chan struct{}
	err     chan error
}

func startJournal(dir string) *journal {
	j := &journal{stop: make(chan struct{}), err: make(chan error, 1)}
	go func() { j.err <- j.write(dir) }()
	return j
}

func (j *journal) write(dir string) error {
	f, err := os.Create(filepath.Join(dir, "journal"))
	if err != nil {
		return err
	}
	defer f.Close()
	noise, err := os.Create(filepath.Join(dir, "noise"))
	if err != nil {
		return err
	}
	defer noise.Close()
	r := rand.New(rand.NewPCG(1, 1))
	b := make([]byte, recordSize)
	page := make([]byte, 8192)
	for n := uint64(1); ; n++ {
		select {
		case <-j.stop:
			return nil
		default:
		}
		binary.LittleEndian.PutUint64(b, n)
		for i := 8; i < recordSize-4; i++ {
			b[i] = byte(r.Uint32())
		}
		binary.LittleEndian.PutUint32(b[recordSize-4:], crc32.ChecksumIEEE(b[:recordSize-4]))
		if _, err := f.Write(b); err != nil {
			return err
		}
		// Pages all over another file, as tables are.
		if _, err := noise.WriteAt(page, 8192*r.Int64N(8000)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		j.durable.Store(n)
	}
}

// check reads the journal in dir: it must hold records 1 to some n without a gap, and n at least least.
func check(dir string, least uint64) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		return 0, err
	}
	n := uint64(0)
	for r := bytes.NewReader(b); ; n++ {
		var rec [recordSize]byte
		if _, err := io.ReadFull(r, rec[:]); err != nil {
			break // a record that was being written
		}
		if binary.LittleEndian.Uint64(rec[:]) != n+1 || binary.LittleEndian.Uint32(rec[recordSize-4:]) != crc32.ChecksumIEEE(rec[:recordSize-4]) {
			if n+1 <= least {
				return n, fmt.Errorf("record %d is damaged", n+1)
			}
			break
		}
	}
	if n < least {
		return n, fmt.Errorf("%d records, and %d were durable before", n, least)
	}
	return n, nil
}

type restpoint struct {
	ID          string `json:"id"`
	Consistency string `json:"consistency"`
	Disks       []struct {
		Tracker string `json:"tracker"`
		Changed int64  `json:"changed"`
	} `json:"disks"`
}

// server is a file system on a loop device that an agent replicates.
type server struct {
	t   *testing.T
	l   *lab.Lab
	fs  string
	dev string
	dir string // where it is mounted
}

// newServer makes a file system of 1 GiB and mounts it.
func newServer(t *testing.T, fs string) *server {
	t.Helper()
	s := newDisk(t)
	s.mount(fs, s.dev)
	return s
}

// newDisk attaches an empty disk of 1 GiB.
func newDisk(t *testing.T) *server {
	t.Helper()
	roottest.Need(t, "loop devices, mounts and eBPF")
	s := &server{t: t, l: lab.New(t), dir: pgtest.PublicDir(t)}
	img := s.l.Path("disk.img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 1<<30); err != nil {
		t.Fatal(err)
	}
	s.dev = run(t, "losetup", "-f", "--show", img)
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", s.dev).Run() })
	return s
}

// mount makes a file system on a device and mounts it.
func (s *server) mount(fs, dev string) {
	s.t.Helper()
	s.fs = fs
	run(s.t, "mkfs."+fs, "-q", dev)
	run(s.t, "mount", dev, s.dir)
	s.t.Cleanup(func() { _ = exec.Command("umount", s.dir).Run() })
}

// protect starts the agent and waits for the first restpoint.
func (s *server) protect() {
	s.t.Helper()
	s.l.StartAgent(s.l.Token("agent"), s.dev)
	s.l.StartHydrator(s.l.Token("node"))
	s.l.Eventually(time.Minute, "first restpoint", func() error {
		out, err := s.l.CLI("restpoints", "ls", "web1", "-o", "json")
		if err == nil && !bytes.Contains(out, []byte(`"id"`)) {
			err = errors.New("none")
		}
		return err
	})
	if _, err := s.l.CLI("machines", "set", "web1", "--interval", "-1s"); err != nil {
		s.t.Fatal(err)
	}
	var machine struct {
		ID string `json:"id"`
	}
	s.l.JSON(&machine, "machines", "show", "web1")
	s.t.Cleanup(func() {
		s.l.Proc("agent").Stop() // it holds the pins
		if err := ebpf.Remove(ebpf.Options{Instance: machine.ID}); err != nil {
			s.t.Error(err)
		}
	})
}

// restpoint makes one, for which in every fifth round another agent is started, and checks what it says of itself. It returns the disk's image; that of an ext4 was
// checked by fsck. (A frozen xfs keeps its log dirty on purpose: it is checked once it was mounted.)
func (s *server) restpoint(round int) (restpoint, string) {
	s.t.Helper()
	if round%5 == 4 {
		s.l.Proc("agent").Kill()
		time.Sleep(200 * time.Millisecond) // nobody watches but the kernel
		s.l.StartAgent("", s.dev)
	}
	s.l.JSON(&struct{}{}, "machines", "sync", "web1", "--wait")
	var list []restpoint
	s.l.JSON(&list, "restpoints", "ls", "web1")
	p := list[0]
	if p.Consistency != "filesystem" || round > 0 && p.Disks[0].Tracker != "ebpf" {
		show, _ := s.l.CLI("machines", "show", "web1")
		s.t.Errorf("round %d: consistency %s, tracker %s\n%s", round, p.Consistency, p.Disks[0].Tracker, show)
	}
	out := s.l.Path("copy.img")
	if _, err := s.l.CLI("restpoints", "export", p.ID, "--disk", "0", "--to", out); err != nil {
		s.t.Fatal(err)
	}
	if s.fs == "ext4" {
		run(s.t, "e2fsck", "-fn", out)
	}
	return p, out
}

// roundsEnv is how many restpoints each test takes, when it is set.
const roundsEnv = "OPENMIGRATE_LIVE_ROUNDS"

func rounds(t *testing.T, usual int) int {
	t.Helper()
	v := os.Getenv(roundsEnv)
	if v == "" {
		return usual
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q", roundsEnv, v)
	}
	return n
}

// TestRestpointsOfALiveServer: restpoints of an ext4 that is written to. Each is clean for fsck and holds every record that was durable when it
// was asked for; the agent is killed now and then and loses no change.
func TestRestpointsOfALiveServer(t *testing.T) {
	s := newServer(t, "ext4")
	j := startJournal(s.dir)
	defer func() {
		close(j.stop)
		if err := <-j.err; err != nil {
			t.Error(err)
		}
	}()
	s.protect()
	mnt := t.TempDir()
	for round := range rounds(t, 10) {
		least := j.durable.Load()
		p, out := s.restpoint(round)
		run(t, "mount", "-o", "loop,ro", out, mnt)
		n, err := check(mnt, least)
		run(t, "umount", mnt)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		t.Logf("round %d: %d records, %d durable when asked; %d bytes of chunks changed", round, n, least, p.Disks[0].Changed)
	}
}
