package agent

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// original runs an agent until its first restpoint, and returns its options and what a copy of its disk has of it.
func original(t *testing.T, m *master) (o Options, copied Options) {
	t.Helper()
	path, _ := image(t, 1<<20)
	o = Options{StateDir: t.TempDir(), Disks: []string{path}, Token: m.token(), CopyMark: filepath.Join(t.TempDir(), "copy.json")}
	p := m.start(o)
	p.restpoint()
	p.stop()
	if err := p.wait(); err != nil {
		t.Fatal(err)
	}
	o.Token = ""
	copied = o
	copied.StateDir, copied.CopyMark = filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "copy.json")
	if err := os.CopyFS(copied.StateDir, os.DirFS(o.StateDir)); err != nil {
		t.Fatal(err)
	}
	return o, copied
}

// silent fails if the master hears of the machine's identity.
func (m *master) silent() (heard chan string) {
	heard = make(chan string, 100)
	m.hooks(func(path string) bool {
		if path != wire.PathAgentAssignment {
			heard <- path
		}
		return true
	}, nil)
	return heard
}

// TestLaunchedCopy never uses the identity that was copied with its disk: it calls home, says what it is, and becomes a machine of its own only when told to.
func TestLaunchedCopy(t *testing.T) {
	m := newMaster(t)
	o, copied := original(t, m)
	id := m.machine().ID
	mark, err := json.Marshal(&wire.CopyMark{Machine: id, Launch: "L", Restpoint: "R", Kind: wire.LaunchTest, URL: m.url, CA: m.authority.Certificate().Raw, Secret: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied.CopyMark, mark, 0o600); err != nil {
		t.Fatal(err)
	}
	heard := m.silent()
	p := m.start(copied)
	select {
	case path := <-heard:
		if path != wire.PathCallHome {
			t.Errorf("the copy asked for %s", path)
		}
	case <-time.After(patience):
		t.Error("the copy did not call home")
	}
	s, err := ReadStatus(copied.StateDir)
	if err != nil || s.State != "copy" || !strings.Contains(s.Message, "launch L") || !strings.Contains(s.Error, "--adopt-copy") {
		t.Errorf("status %+v, %v", s, err)
	}
	p.stop()
	if err := p.wait(); err != nil {
		t.Error(err)
	}
	copied.AdoptCopy = true
	if err := m.start(copied).wait(); err == nil || !strings.Contains(err.Error(), "--token") {
		t.Errorf("adopted without a token: %v", err)
	}
	copied.Token = m.token()
	for range 2 { // the second is a start like any other
		p = m.start(copied)
		p.restpoint()
		p.stop()
		if err := p.wait(); err != nil {
			t.Error(err)
		}
		if err := os.Remove(filepath.Join(copied.StateDir, scheduleFile)); err != nil {
			t.Error(err)
		}
		copied.Token, copied.AdoptCopy = "", false
	}
	list, err := m.Catalog.Machines(t.Context(), catalog.DefaultProject)
	if err != nil || len(list) != 2 || list[0].Sequence+list[1].Sequence != 3 {
		t.Errorf("%d machines, %v", len(list), err)
	}
	for _, x := range list {
		if x.Frozen != "" {
			t.Errorf("%s is frozen: %s", x.Name, x.Frozen)
		}
	}
	if _, err := os.Stat(filepath.Join(copied.StateDir, asideName+"L", "identity.json")); err != nil {
		t.Errorf("the copied identity: %v", err)
	}
	m.hooks(nil, nil)
	if err := os.Remove(filepath.Join(o.StateDir, scheduleFile)); err != nil {
		t.Error(err)
	}
	p = m.start(o) // the original goes on
	p.restpoint()
	p.stop()
	if err := p.wait(); err != nil {
		t.Error(err)
	}
}

// TestOtherHost: an identity on a host that looks like another is not used until somebody says that it is the same.
func TestOtherHost(t *testing.T) {
	m := newMaster(t)
	o, _ := original(t, m)
	if err := os.WriteFile(filepath.Join(o.StateDir, hostFile), []byte(`{"fingerprint":"another"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Catalog.UpdateMachine(t.Context(), m.machine().ID, func(x *catalog.Machine) error {
		x.Fingerprint = "another"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	heard := m.silent()
	if err := m.start(o).wait(); !errors.Is(err, ErrCopied) || !strings.Contains(err.Error(), "--moved") {
		t.Errorf("got %v", err)
	}
	if len(heard) > 0 {
		t.Errorf("the master was asked for %s", <-heard)
	}
	o.Moved = true
	m.sync()
	for range 2 {
		p := m.start(o)
		if o.Moved {
			p.restpoint()
		} else {
			m.sync()
			p.restpoint()
		}
		p.stop()
		if err := p.wait(); err != nil {
			t.Error(err)
		}
		o.Moved = false
	}
	if x := m.machine(); x.Frozen != "" || x.Fingerprint != "f" || len(x.Events) != 1 || x.Events[0].Code != "host-changed" {
		t.Errorf("%q, %s, %+v", x.Frozen, x.Fingerprint, x.Events)
	}
}

// TestMarkDamaged: a mark that cannot be read is a mark.
func TestMarkDamaged(t *testing.T) {
	for name, text := range map[string]string{"no JSON": "{", "no launch": "{}", "empty": ""} {
		path := filepath.Join(t.TempDir(), "copy.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readMark(path); !errors.Is(err, ErrCopied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if mark, err := readMark(filepath.Join(t.TempDir(), "copy.json")); mark != nil || err != nil {
		t.Errorf("no mark: %v, %v", mark, err)
	}
}
