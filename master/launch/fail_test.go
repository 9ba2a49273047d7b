package launch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/fault"
	"github.com/openmigrate/openmigrate/providers/memprovider"
	"github.com/openmigrate/openmigrate/wire"
)

// TestRefused: what cannot work is refused before anything is made, with what to do.
func TestRefused(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	w.broken = map[string]error{"qemu": errors.New("another process uses /var/lib/qemu")}
	w.restart()
	change := func(fn func(*wire.Inventory)) *wire.Inventory {
		inv := inventory()
		fn(inv)
		return inv
	}
	test, cutover := wire.LaunchTest, wire.LaunchCutover
	mem := func(t wire.LaunchTemplate) *wire.LaunchTemplate { t.Provider = "mem"; return &t }
	for name, tt := range map[string]struct {
		kind      string
		restpoint string
		template  *wire.LaunchTemplate
		inv       *wire.Inventory
		want      string
	}{
		"kind":             {kind: "dance", want: "want test or cutover"},
		"restpoint":        {kind: test, restpoint: "none", template: mem(wire.LaunchTemplate{}), want: "no restpoint"},
		"unknown provider": {kind: test, template: &wire.LaunchTemplate{Provider: "moon"}, want: "no provider \"moon\""},
		"no provider":      {kind: test, template: &wire.LaunchTemplate{}, want: "names no provider"},
		"broken provider":  {kind: test, template: &wire.LaunchTemplate{Provider: "qemu"}, want: "another process uses"},
		"type":             {kind: test, template: mem(wire.LaunchTemplate{Type: "huge"}), want: "no instance type"},
		"memory":           {kind: test, template: mem(wire.LaunchTemplate{Memory: 2 << 40}), want: "2097152 MiB of memory"},
		"network":          {kind: test, template: mem(wire.LaunchTemplate{Network: "dmz"}), want: "no network \"dmz\""},
		"zone":             {kind: test, template: mem(wire.LaunchTemplate{Zone: "north"}), want: "no zone"},
		"bus":              {kind: test, template: mem(wire.LaunchTemplate{Type: memprovider.SmallType, Bus: "xen-blk"}), want: "disks on"},
		"setting":          {kind: test, template: mem(wire.LaunchTemplate{Settings: map[string]string{"colour": "red"}}), want: "no setting"},
		"instant":          {kind: test, template: mem(wire.LaunchTemplate{Instant: true}), want: "before its data is there"},
		"instant cutover":  {kind: cutover, template: mem(wire.LaunchTemplate{Instant: true}), want: "only a test"},
		"check":            {kind: test, template: mem(wire.LaunchTemplate{Checks: []wire.LaunchCheck{{Kind: "smell"}}}), want: "check \"smell\": want one of"},
		"check's port":     {kind: test, template: mem(wire.LaunchTemplate{Checks: []wire.LaunchCheck{{Kind: wire.CheckTCP}}}), want: "check tcp: tcp and http have a port"},
		"architecture":     {kind: test, template: mem(wire.LaunchTemplate{Type: memprovider.SmallType}), inv: change(func(i *wire.Inventory) { i.Kernel.Arch = "arm64" }), want: "architecture is \"arm64\""},
		"encrypted": {kind: test, template: mem(wire.LaunchTemplate{}), inv: change(func(i *wire.Inventory) {
			i.Devices[0].Table.Partitions[0].Content.Type = "luks"
			i.Devices = append(i.Devices, wire.BlockDevice{ID: "dm", Name: "dm-0", DMUUID: "CRYPT-LUKS2-x", Slaves: []string{"sda1"}})
			i.Filesystems[0].Device = "dm-0"
		}), want: "encrypted (LUKS)"},
		"no boot disk": {kind: test, template: mem(wire.LaunchTemplate{Firmware: "uefi"}), want: "EFI system partition"},
		"root elsewhere": {kind: test, template: mem(wire.LaunchTemplate{}), inv: change(func(i *wire.Inventory) {
			i.Devices = append(i.Devices, wire.BlockDevice{ID: "other", Name: "sdz", Table: &wire.PartitionTable{Scheme: "mbr", Partitions: []wire.Partition{{Number: 1}}}})
			i.Filesystems[0].Device = "sdz1"
		}), want: "holds the root file system"},
	} {
		if tt.inv == nil {
			tt.inv = inventory()
		}
		w.hello(tt.inv)
		_, err := w.try(wire.LaunchRequest{Kind: tt.kind, Restpoint: tt.restpoint, Template: tt.template})
		var p *wire.Problem
		if !errors.As(err, &p) || !strings.Contains(p.Error(), tt.want) || p.Next == "" {
			t.Errorf("%s: %v, next %q", name, err, p)
		}
	}
	if list, err := w.s.List(t.Context(), ""); err != nil || len(list) != 0 || len(w.resources()) != 0 {
		t.Errorf("%d launches, %v at the provider: %v", len(list), w.resources(), err)
	}
}

func TestRefusedSource(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	refused := func(want string) {
		t.Helper()
		var p *wire.Problem
		if _, err := w.try(wire.LaunchRequest{Kind: wire.LaunchCutover}); !errors.As(err, &p) || !strings.Contains(p.Detail, want) || p.Next == "" {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := w.env.Catalog.SetPaused(t.Context(), w.machine().ID, true); err != nil {
		t.Fatal(err)
	}
	refused("is paused")
	if err := w.env.Catalog.SetPaused(t.Context(), w.machine().ID, false); err != nil {
		t.Fatal(err)
	}
	w.env.Pass(time.Hour)
	refused("was not heard of")
	// The newest restpoint can be brought up without it.
	l := w.start(wire.LaunchRequest{Kind: wire.LaunchCutover, Restpoint: "db1/latest"})
	refused("was not heard of")
	w.hello(inventory())
	refusedRival(t, w)
	w.until(l.ID, wire.LaunchRunning)
	if w.machine().Hold != nil || w.thawed != 0 {
		t.Error("a rollback touched its source")
	}
	if err := w.env.Catalog.RemoveRestpoint(t.Context(), "db1/latest"); !wire.HasCode(err, wire.CodeConflict) {
		t.Errorf("a restpoint in use was removed: %v", err)
	}
	if err := w.env.Catalog.RemoveMachine(t.Context(), "db1"); !wire.HasCode(err, wire.CodeConflict) {
		t.Errorf("a machine that is live was removed: %v", err)
	}
}

func refusedRival(t *testing.T, w *world) {
	t.Helper()
	if _, err := w.try(wire.LaunchRequest{Kind: wire.LaunchCutover}); !wire.HasCode(err, wire.CodeBusy) {
		t.Errorf("a second cutover: %v", err)
	}
}

// TestInspectRefuses: a node that sees that the system cannot be converted ends the launch before anything is made.
func TestInspectRefuses(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	w.answer = func(j *wire.Job) (*wire.Failure, bool) {
		return &wire.Failure{Code: wire.CodeRefused, Message: "no kernel has a driver for virtio-blk; install linux-image-amd64"}, true
	}
	l := w.start(wire.LaunchRequest{Kind: wire.LaunchTest})
	info := w.until(l.ID, wire.LaunchFailed)
	if info.Failure.Step != wire.LaunchPending || !strings.HasPrefix(info.Failure.Reason, "no kernel has a driver") || len(w.resources()) != 0 || w.jobs[wire.JobHydrate] != 0 {
		t.Errorf("%+v, %v", info.Failure, w.resources())
	}
	if l := w.life(); l != wire.LifeReadyToTest {
		t.Errorf("life is %s", l)
	}
}

// TestSaysAgain: what is tried again says so in the log, once for each try, with the reason.
func TestSaysAgain(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	tries := map[string]int{}
	w.answer = func(j *wire.Job) (*wire.Failure, bool) {
		tries[j.Kind]++
		if j.Kind == wire.JobConvert && tries[j.Kind] < 3 {
			return &wire.Failure{Code: wire.CodeInternal, Message: "run /usr/sbin/mkinitramfs: it was stopped because it took too long"}, true
		}
		return nil, true
	}
	l := w.start(wire.LaunchRequest{Kind: wire.LaunchTest})
	info := w.until(l.ID, wire.LaunchRunning, wire.LaunchFailed)
	var said []string
	for _, line := range info.Log {
		if strings.Contains(line.Message, "tried again") {
			said = append(said, line.Message)
		}
	}
	if info.State != wire.LaunchRunning || len(said) != 2 || !strings.HasPrefix(said[0], "convert the system: attempt 1 came to nothing, it is tried again: run /usr/sbin/mkinitramfs: it was stopped") ||
		!strings.Contains(said[1], "attempt 2") {
		t.Errorf("%s, %q", info.State, said)
	}
}

// TestConsoleFails: a machine whose console says that it will not come up is not waited for.
func TestConsoleFails(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	w.console = func(providers.Instance) string {
		return "ALERT!  /dev/sda1 does not exist.  Dropping to a shell!\n(initramfs) "
	}
	l := w.start(wire.LaunchRequest{Kind: wire.LaunchTest})
	began := w.env.Clock.Now()
	info := w.until(l.ID, wire.LaunchFailed)
	if f := info.Failure; f.Step != wire.LaunchChecking || !strings.HasPrefix(f.Cause, "root device not found: /dev/sda1") || !strings.Contains(f.Console, "(initramfs)") {
		t.Errorf("%+v", f)
	}
	if took := w.env.Clock.Now().Sub(began); took > time.Minute || len(w.resources()) != 0 {
		t.Errorf("after %s, left %v", took, w.resources())
	}
	if b, err := w.s.Console(t.Context(), l.ID); err != nil || !strings.Contains(string(b), "ALERT!") {
		t.Errorf("console %q: %v", b, err)
	}
	// A silent one is given up at its check's time limit.
	w.console = func(providers.Instance) string { return "Booting...\n" }
	l = w.start(wire.LaunchRequest{Kind: wire.LaunchTest, Template: &wire.LaunchTemplate{Checks: []wire.LaunchCheck{{Kind: wire.CheckBoot, Timeout: wire.Duration(30 * time.Second)}}}})
	if info = w.until(l.ID, wire.LaunchFailed); !strings.Contains(info.Failure.Reason, "check boot did not pass within 30s") {
		t.Errorf("%+v", info.Failure)
	}
}

// TestHoldLost: a source that thaws before its copy runs ends the cutover.
func TestHoldLost(t *testing.T) {
	for _, state := range []string{wire.HoldLost, wire.HoldFailed} {
		t.Run(state, func(t *testing.T) {
			fast(t)
			w := newWorld(t, memprovider.Host)
			w.answer = func(j *wire.Job) (*wire.Failure, bool) { return nil, j.Kind != wire.JobConvert }
			l := w.start(wire.LaunchRequest{Kind: wire.LaunchCutover})
			w.until(l.ID, wire.LaunchConverting)
			w.agentOff = true
			if err := w.env.Catalog.Report(t.Context(), w.machine().ID, wire.Report{Hold: &wire.HoldReport{ID: l.ID, State: state, Message: "its time was up"}}); err != nil {
				t.Fatal(err)
			}
			info := w.until(l.ID, wire.LaunchFailed)
			if !strings.Contains(info.Failure.Reason, "its time was up") || len(w.resources()) != 0 || w.machine().Hold != nil {
				t.Errorf("%+v, left %v, hold %v", info.Failure, w.resources(), w.machine().Hold)
			}
		})
	}
}

// TestProviderFails: whatever call fails in whatever way, the launch runs or fails cleanly, and nothing is left.
func TestProviderFails(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	for _, op := range []string{"Capabilities", "CreateVolume", "Volume", "AttachVolume", "DetachVolume", "CreateInstance", "Instance", "Console", "Screenshot", "List", "TerminateInstance", "DeleteVolume"} {
		for _, err := range []error{providers.ErrTryAgain, providers.ErrQuota, providers.ErrDenied, providers.ErrConflict} {
			for _, after := range []bool{false, true} {
				if after && !errors.Is(err, providers.ErrTryAgain) {
					continue // a refusal has made nothing
				}
				w.p = fault.New(w.mem, fault.Rule{Op: op, Nth: 2, After: after, Err: err})
				w.restart()
				name := fmt.Sprintf("%s: %v, after %v", op, err, after)
				l, serr := w.try(wire.LaunchRequest{Kind: wire.LaunchTest})
				if serr != nil {
					t.Fatalf("%s: %v", name, serr)
				}
				info := w.until(l.ID, wire.LaunchRunning, wire.LaunchFailed)
				if errors.Is(err, providers.ErrTryAgain) && info.State != wire.LaunchRunning {
					t.Errorf("%s: %+v", name, info.Failure)
				}
				if info.State == wire.LaunchRunning {
					if _, err := w.s.Revert(t.Context(), l.ID, "ann"); err != nil {
						t.Fatal(err)
					}
					w.until(l.ID, wire.LaunchReverted)
				}
				if left := w.resources(); len(left) != 0 {
					t.Fatalf("%s: left %v", name, left)
				}
			}
		}
	}
}

func TestDeadlineAndKeep(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	l := w.start(wire.LaunchRequest{Kind: wire.LaunchTest, Template: &wire.LaunchTemplate{Deadline: wire.Duration(time.Hour)}})
	w.until(l.ID, wire.LaunchRunning)
	w.turn()
	if s := w.get(l.ID).State; s != wire.LaunchRunning {
		t.Errorf("%s before its deadline", s)
	}
	w.env.Pass(time.Hour)
	w.until(l.ID, wire.LaunchReverted)
	if len(w.resources()) != 0 {
		t.Errorf("left %v", w.resources())
	}
}

// TestSweep: a sweep takes what launches that are over left, never what a finalized one owns nor what nothing is known of. That only goes when an operator
// asks.
func TestSweep(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	make := func(launch string) {
		t.Helper()
		_, err := w.mem.CreateVolume(t.Context(), providers.VolumeSpec{Meta: providers.Meta{Token: "t-" + launch, Owner: providers.Owner{System: testSystem, Launch: launch}}, Size: 512})
		if err != nil {
			t.Fatal(err)
		}
	}
	owners := func() string {
		all, err := w.mem.List(t.Context(), testSystem)
		if err != nil {
			t.Fatal(err)
		}
		n := map[string]int{}
		for _, x := range all {
			n[x.Owner.Launch]++
		}
		return fmt.Sprint(n)
	}
	live := w.start(wire.LaunchRequest{Kind: wire.LaunchCutover, Restpoint: "db1/latest"})
	w.until(live.ID, wire.LaunchRunning)
	if _, err := w.s.Finalize(t.Context(), live.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	w.until(live.ID, wire.LaunchFinalized)
	dead := w.start(wire.LaunchRequest{Kind: wire.LaunchTest})
	if _, err := w.s.Revert(t.Context(), dead.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	w.until(dead.ID, wire.LaunchReverted)
	make(dead.ID)
	make("unknown")
	make("warm-nobody")
	for range 2 {
		if _, err := w.s.sweep(t.Context(), w.mem, w.s.surelyDead); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := owners(), fmt.Sprint(map[string]int{live.ID: 3, "unknown": 1}); got != want {
		t.Errorf("left %s, want %s", got, want)
	}
	list, err := w.s.Orphans(t.Context(), "mem")
	if err != nil || len(list) != 1 || list[0].Launch != "unknown" {
		t.Errorf("orphans %v: %v", list, err)
	}
	if gone, err := w.s.Sweep(t.Context(), "mem"); err != nil || len(gone) != 1 {
		t.Errorf("swept %v: %v", gone, err)
	}
	if got, want := owners(), fmt.Sprint(map[string]int{live.ID: 3}); got != want {
		t.Errorf("left %s, want %s", got, want)
	}
}

func TestCallHome(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	var mark *wire.CopyMark
	w.answer = func(j *wire.Job) (*wire.Failure, bool) {
		if j.Kind == wire.JobConvert {
			mark = j.Convert.Mark
		}
		return nil, true
	}
	l := w.start(wire.LaunchRequest{Kind: wire.LaunchTest, Template: &wire.LaunchTemplate{Checks: []wire.LaunchCheck{{Kind: wire.CheckCallHome}}}})
	w.until(l.ID, wire.LaunchChecking)
	for _, c := range []wire.CallHome{{Launch: l.ID}, {Launch: l.ID, Secret: "wrong"}, {Launch: "none", Secret: mark.Secret}, {Launch: strings.Repeat("x", 1<<16)}} {
		if err := w.s.CallHome(t.Context(), c); !wire.HasCode(err, wire.CodeUnauthorized) {
			t.Errorf("call home: %v", err)
		}
	}
	if err := w.s.CallHome(t.Context(), wire.CallHome{Launch: mark.Launch, Secret: mark.Secret, Hostname: "db1\x1b[31m"}); err != nil {
		t.Fatal(err)
	}
	w.until(l.ID, wire.LaunchRunning)
	if _, err := w.s.Revert(t.Context(), l.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	w.until(l.ID, wire.LaunchReverted)
	if err := w.s.CallHome(t.Context(), wire.CallHome{Launch: mark.Launch, Secret: mark.Secret}); !wire.HasCode(err, wire.CodeUnauthorized) {
		t.Errorf("call home of a launch that is over: %v", err)
	}
}

// TestProbes tries TCP and HTTP checks against servers, some of which are hostile.
func TestProbes(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "it is well") })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for b := make([]byte, 64<<10); ; {
			if _, err := w.Write(b); err != nil || r.Context().Err() != nil {
				return
			}
		}
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	at := netip.MustParseAddrPort(srv.Listener.Addr().String())
	for name, tt := range map[string]struct {
		check wire.LaunchCheck
		ok    bool
	}{
		"status":       {wire.LaunchCheck{Kind: wire.CheckHTTP, Path: "/ok"}, true},
		"text":         {wire.LaunchCheck{Kind: wire.CheckHTTP, Path: "/ok", Text: "well"}, true},
		"other text":   {wire.LaunchCheck{Kind: wire.CheckHTTP, Path: "/ok", Text: "ill"}, false},
		"other status": {wire.LaunchCheck{Kind: wire.CheckHTTP, Path: "/none"}, false},
		"redirect":     {wire.LaunchCheck{Kind: wire.CheckHTTP, Path: "/away"}, false},
		"302 wanted":   {wire.LaunchCheck{Kind: wire.CheckHTTP, Path: "/away", Status: 302}, true},
		"endless":      {wire.LaunchCheck{Kind: wire.CheckHTTP, Path: "/endless", Text: "x"}, false},
		"tcp":          {wire.LaunchCheck{Kind: wire.CheckTCP}, true},
	} {
		tt.check.Port = 80
		r := &run{Service: &Service{}}
		i := providers.Instance{NICs: []providers.InstanceNIC{{Forwards: []providers.Forward{{Port: 80, Address: at}}}}}
		if err := r.try(t.Context(), &tt.check, &i, nil); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A forward whose machine does not listen accepts, and closes at once.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	if err := tryTCP(t.Context(), l.Addr().String()); err == nil {
		t.Error("a connection that is closed at once passes")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	<-closed
}

// TestRetention: rows that are over go with time, but those of machines that stay.
func TestRetention(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	err := w.env.DB.Update(t.Context(), func(tx store.Writer) error {
		for n := range uint64(keepRows + 10) {
			l := &row{ID: fmt.Sprintf("old-%d", n), Number: n, Kind: wire.LaunchTest, State: wire.LaunchReverted}
			if n == 0 {
				l.State = wire.LaunchFinalized
			}
			if err := errors.Join(putRow(tx, l), tx.Put(tableOrder, u64(n), []byte(l.ID)), tx.Put(tableConsoles, []byte(l.ID), []byte("x"))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.s.retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := w.s.List(t.Context(), "")
	if err != nil || len(list) != keepRows || list[0].ID != fmt.Sprintf("old-%d", keepRows+9) || list[keepRows-1].ID != "old-0" {
		t.Errorf("%d launches are left, %s is the oldest: %v", len(list), list[len(list)-1].ID, err)
	}
	if _, err := w.s.blob(t.Context(), tableConsoles, "old-1", "console"); !wire.HasCode(err, wire.CodeNotFound) {
		t.Errorf("a console outlives its launch: %v", err)
	}
}
