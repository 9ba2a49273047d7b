package api

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// TestListsFollowChanges: what lists are made of in memory is what the rows say, whatever happens to machines.
func TestListsFollowChanges(t *testing.T) {
	w := newWorld(t)
	c := w.admin()
	seen := func(what string) map[string]wire.MachineInfo {
		t.Helper()
		list, err := c.Machines(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]wire.MachineInfo{}
		for _, m := range list {
			all[m.Name] = m
			one, err := c.Machine(t.Context(), m.ID)
			if err != nil {
				t.Fatal(err)
			}
			if one.Revision != m.Revision || one.Replication != m.Replication || one.Reason != m.Reason || one.Session != m.Session || one.LastRestpoint != m.LastRestpoint ||
				one.Restpoints != m.Restpoints || one.OS != m.OS || one.Life != m.Life || one.LastSeen != m.LastSeen {
				t.Errorf("%s: listed %+v, shown %+v", what, m, one)
			}
		}
		return all
	}
	a := w.env.NewAgent("web")
	seen("one")
	cycle, err := a.Open("", catalogDisk())
	if err != nil {
		t.Fatal(err)
	}
	if m := seen("a session")["web"]; m.Session != cycle.Session.ID || m.Replication != catalog.InitialSync {
		t.Errorf("with a session: %+v", m)
	}
	if _, err := w.env.Catalog.RenewSession(t.Context(), a.Machine.ID, cycle.Session.ID, wire.Progress{Total: 10, Done: 5}); err != nil {
		t.Fatal(err)
	}
	if m := seen("progress")["web"]; m.Progress == nil || m.Progress.Done != 5 {
		t.Errorf("its progress: %+v", m.Progress)
	}
	if err := w.env.Catalog.AbortSession(t.Context(), a.Machine.ID, cycle.Session.ID, wire.Failure{Code: "x"}); err != nil {
		t.Fatal(err)
	}
	id, _ := a.Replicate(catalogDisk())
	if m := seen("a restpoint")["web"]; m.LastRestpoint != id || m.Session != "" {
		t.Errorf("with a restpoint: %+v", m)
	}
	if err := c.PauseMachine(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if m := seen("paused")["web"]; !m.Paused || m.Replication != catalog.Paused {
		t.Errorf("paused: %+v", m)
	}
	w.env.NewAgent("db")
	if err := c.RemoveMachine(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if all := seen("another"); len(all) != 1 || all["db"].ID == "" {
		t.Errorf("after a removal: %v", all)
	}
	var sum wire.FleetSummary
	if _, err := c.Do(t.Context(), "GET", wire.PathSummary, nil, &sum); err != nil || sum.Machines != 1 || sum.Replication[catalog.Enrolled] != 1 || len(sum.Attention) != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
}

// TestTenThousandMachines measures lists of a large fleet (OPENMIGRATE_FLEET, the number of machines; 300 without it).
func TestTenThousandMachines(t *testing.T) {
	n := 300
	if text := os.Getenv("OPENMIGRATE_FLEET"); text != "" {
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t)
	inventory := bigInventory()
	now := w.env.Clock.Now()
	for i := range n {
		m := catalog.Machine{Name: fmt.Sprintf("server-%05d", i), SigningKey: make([]byte, 32), Inventory: inventory, Group: fmt.Sprintf("g%d", i%20), LastSeen: now}
		if i%3 == 0 {
			m.LastRestpoint, m.LastTime, m.LastInstant = "r", now, now.Add(-time.Duration(i)*time.Second)
		}
		if _, err := w.env.Catalog.CreateMachine(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	admin := w.person(accounts.RoleViewer)
	for _, query := range []string{"limit=50", "limit=50&sort=-rpo", "limit=50&sort=life&replication=lagging,stalled", "limit=500&search=server-001"} {
		var times []time.Duration
		for i := range 21 {
			start := time.Now()
			res, b := admin.ask(t, w, "GET", wire.PathMachines+"?"+query, "")
			if i > 0 {
				times = append(times, time.Since(start))
			} else {
				t.Logf("%s: the first time %v", query, time.Since(start).Round(time.Millisecond))
			}
			if res.StatusCode != 200 {
				t.Fatalf("%d %s", res.StatusCode, b)
			}
		}
		slices.Sort(times)
		t.Logf("%d machines, %s: median %v, slowest %v", n, query, times[len(times)/2].Round(100*time.Microsecond), times[len(times)-1].Round(100*time.Microsecond))
		if median := times[len(times)/2]; median > time.Second {
			t.Errorf("%s: median %v", query, median)
		}
	}
}

// bigInventory is that of a server with some disks, services and addresses: some 20 KiB of JSON.
func bigInventory() *wire.Inventory {
	in := &wire.Inventory{Hostname: "server", OS: wire.OSRelease{ID: "debian", Version: "12", PrettyName: "Debian GNU/Linux 12 (bookworm)"}}
	for i := range 20 {
		in.Devices = append(in.Devices, wire.BlockDevice{Name: fmt.Sprintf("sd%c", 'a'+i), Path: fmt.Sprintf("/dev/sd%c", 'a'+i), ID: fmt.Sprintf("wwn-0x5000c500a1b2c3%02d", i), Type: "disk", Size: 1 << 40, Serial: "S3Z9NB0K123456"})
	}
	for i := range 150 {
		in.Services = append(in.Services, fmt.Sprintf("some-service-with-a-name-%03d.service", i))
		in.Filesystems = append(in.Filesystems, wire.Filesystem{Source: "/dev/mapper/vg-root", Device: "dm-0", Mountpoint: fmt.Sprintf("/srv/data/%d", i), Type: "ext4"})
	}
	return in
}
