package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/launch"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// fakeLaunches remembers what it was asked, and brings nothing up.
type fakeLaunches struct {
	mu        gosync.Mutex
	started   []wire.LaunchRequest
	launches  []wire.LaunchInfo
	templates map[string]wire.LaunchTemplate
	calls     []wire.CallHome
	by        []string
	console   []byte
	screen    []byte
	fail      error
	swept     bool
}

func newFakeLaunches() *fakeLaunches {
	return &fakeLaunches{templates: map[string]wire.LaunchTemplate{}, console: []byte("login: "), screen: []byte(string(pngSignature) + "rest")}
}

func (f *fakeLaunches) lock() func() { f.mu.Lock(); return f.mu.Unlock }

func (f *fakeLaunches) Start(_ context.Context, project string, r wire.LaunchRequest, by string) (wire.LaunchInfo, error) {
	defer f.lock()()
	f.started, f.by = append(f.started, r), append(f.by, by)
	info := wire.LaunchInfo{ID: fmt.Sprintf("l%d", len(f.launches)), Kind: r.Kind, Machine: r.Machine, State: wire.LaunchPending, Project: project}
	if f.fail == nil {
		f.launches = append([]wire.LaunchInfo{info}, f.launches...)
	}
	return info, f.fail
}

func (f *fakeLaunches) List(_ context.Context, machine string) (out []wire.LaunchInfo, err error) {
	defer f.lock()()
	for _, l := range f.launches {
		if machine == "" || l.Machine == machine {
			out = append(out, l)
		}
	}
	return out, f.fail
}

func (f *fakeLaunches) Get(_ context.Context, id string) (wire.LaunchInfo, error) {
	defer f.lock()()
	for _, l := range f.launches {
		if l.ID == id {
			return l, nil
		}
	}
	return wire.LaunchInfo{}, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no launch %q", id)
}

func (f *fakeLaunches) end(id, by, state string) (wire.LaunchInfo, error) {
	defer f.lock()()
	f.by = append(f.by, by)
	for i := range f.launches {
		if f.launches[i].ID == id {
			f.launches[i].State = state
			return f.launches[i], f.fail
		}
	}
	return wire.LaunchInfo{}, errors.New("it was there a moment ago")
}

func (f *fakeLaunches) Revert(_ context.Context, id, by string) (wire.LaunchInfo, error) {
	return f.end(id, by, wire.LaunchReverting)
}

func (f *fakeLaunches) Finalize(_ context.Context, id, by string) (wire.LaunchInfo, error) {
	return f.end(id, by, wire.LaunchFinalized)
}

func (f *fakeLaunches) Console(context.Context, string) ([]byte, error) { return f.console, f.fail }

func (f *fakeLaunches) Screenshot(context.Context, string) ([]byte, error) { return f.screen, f.fail }

func (f *fakeLaunches) Template(_ context.Context, machine string) (wire.LaunchTemplate, error) {
	defer f.lock()()
	return f.templates[machine], f.fail
}

func (f *fakeLaunches) SetTemplate(_ context.Context, machine string, t wire.LaunchTemplate, check func(wire.LaunchTemplate) error) error {
	defer f.lock()()
	if err := check(f.templates[machine]); err != nil {
		return err
	}
	f.templates[machine] = t
	return f.fail
}

func (f *fakeLaunches) Providers(context.Context) ([]wire.ProviderInfo, error) {
	return []wire.ProviderInfo{{Name: "here", Kind: "qemu"}}, nil
}

func (f *fakeLaunches) Check(_ context.Context, provider string, line func(string)) (wire.ProviderCheck, error) {
	c := wire.ProviderCheck{Passed: 2, Lines: []string{"volumes", provider}}
	for _, l := range c.Lines {
		line(l)
	}
	return c, f.fail
}

func (f *fakeLaunches) Orphans(context.Context, string) ([]wire.Orphan, error) {
	return []wire.Orphan{{Kind: "volume", ID: "v1"}}, f.fail
}

func (f *fakeLaunches) Sweep(context.Context, string) ([]wire.Orphan, error) {
	defer f.lock()()
	f.swept = true
	return []wire.Orphan{{Kind: "volume", ID: "v1"}}, f.fail
}

func (f *fakeLaunches) CallHome(_ context.Context, h wire.CallHome) error {
	defer f.lock()()
	f.calls = append(f.calls, h)
	return f.fail
}

func (f *fakeLaunches) Life(_ context.Context, machines []catalog.Machine) (map[string]launch.Life, error) {
	out := map[string]launch.Life{}
	for _, m := range machines {
		out[m.ID] = launch.Life{State: wire.LifeReadyToTest, NextStep: "openmigrate launch test " + m.Name}
	}
	return out, nil
}

// TestLaunches: a person starts a launch by a machine's name, sees it, ends it; the engine hears ids, and who asked.
func TestLaunches(t *testing.T) {
	w := newWorld(t)
	machine, c := w.enrol(ca.KindAgent, true), w.admin()
	m, err := c.Machine(t.Context(), machine.id)
	if err != nil {
		t.Fatal(err)
	}
	if m.Life != wire.LifeReadyToTest || m.LifeStep != "openmigrate launch test "+m.Name {
		t.Errorf("life %q, %q", m.Life, m.LifeStep)
	}
	list, err := c.Machines(t.Context())
	if err != nil || len(list) != 1 || list[0].Life != m.Life {
		t.Errorf("list: %+v, %v", list, err)
	}
	l, err := c.StartLaunch(t.Context(), wire.LaunchRequest{Kind: wire.LaunchTest, Machine: m.Name, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	if q := w.launches.started[0]; q.Machine != m.ID || !q.Keep || w.launches.by[0] != accounts.RoleAdmin {
		t.Errorf("the engine heard %+v by %v", q, w.launches.by)
	}
	all, err := c.Launches(t.Context(), "")
	ours, err2 := c.Launches(t.Context(), m.Name)
	if err != nil || err2 != nil || len(all) != 1 || len(ours) != 1 || ours[0].ID != l.ID {
		t.Errorf("%v, %v, %v, %v", all, ours, err, err2)
	}
	if l, err = c.RevertLaunch(t.Context(), l.ID); err != nil || l.State != wire.LaunchReverting {
		t.Errorf("revert: %v, %v", l.State, err)
	}
	if l, err = c.FinalizeLaunch(t.Context(), l.ID); err != nil || l.State != wire.LaunchFinalized {
		t.Errorf("finalize: %v, %v", l.State, err)
	}
	for what, err := range map[string]error{
		"a launch": second(c.Launch(t.Context(), "none")), "revert": second(c.RevertLaunch(t.Context(), "none")), "console": second(c.LaunchConsole(t.Context(), "none")),
		"a machine": second(c.StartLaunch(t.Context(), wire.LaunchRequest{Kind: wire.LaunchTest, Machine: "none"})), "its launches": second(c.Launches(t.Context(), "none")),
		"a restpoint": second(c.StartLaunch(t.Context(), wire.LaunchRequest{Kind: wire.LaunchTest, Machine: m.ID, Restpoint: "none"})),
		"a provider":  second(c.CheckProvider(t.Context(), "none", nil)), "orphans": second(c.Orphans(t.Context(), "none")),
	} {
		wantCode(t, what+" that is not there", err, wire.CodeNotFound)
	}
}

func second[T any](_ T, err error) error { return err }

// TestLaunchesOfOthers: a launch of another project's machine is as good as absent.
func TestLaunchesOfOthers(t *testing.T) {
	w := newWorld(t)
	machine := w.enrol(ca.KindAgent, true)
	if _, err := w.admin().StartLaunch(t.Context(), wire.LaunchRequest{Kind: wire.LaunchTest, Machine: machine.id}); err != nil {
		t.Fatal(err)
	}
	_, text, err := w.accounts.NewToken(t.Context(), nil, accounts.Token{Project: "other", Name: "stranger", Role: accounts.RoleAdmin}, 0)
	if err != nil {
		t.Fatal(err)
	}
	other := apiclient.New(w.client(wire.ClientOptions{Token: text}))
	for what, err := range map[string]error{
		"show": second(other.Launch(t.Context(), "l0")), "revert": second(other.RevertLaunch(t.Context(), "l0")), "console": second(other.LaunchConsole(t.Context(), "l0")),
		"screenshot": second(other.LaunchScreenshot(t.Context(), "l0")), "template": second(other.LaunchTemplate(t.Context(), machine.id)),
		"start": second(other.StartLaunch(t.Context(), wire.LaunchRequest{Kind: wire.LaunchTest, Machine: machine.id})),
	} {
		wantCode(t, what, err, wire.CodeNotFound)
	}
	if list, err := other.Launches(t.Context(), ""); err != nil || len(list) != 0 {
		t.Errorf("another project sees %v, %v", list, err)
	}
	if w.launches.launches[0].State != wire.LaunchPending {
		t.Error("another project reverted it")
	}
}

// TestTemplates come back as they were given.
func TestTemplates(t *testing.T) {
	w := newWorld(t)
	machine, c := w.enrol(ca.KindAgent, true), w.admin()
	want := wire.LaunchTemplate{
		Provider: "here", CPUs: 2, Memory: 1 << 30, Firmware: "uefi", Bus: "nvme", Network: "isolated", Forward: []uint16{22, 443}, Settings: map[string]string{"nic": "e1000"},
		Address: &wire.LaunchAddress{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24")}, Gateway: netip.MustParseAddr("192.0.2.1"), DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53")}},
		Checks: []wire.LaunchCheck{{Kind: "boot"}, {Kind: "tcp", Port: 22, Timeout: wire.Duration(time.Minute)}, {Kind: "http", Port: 80, Path: "/health?x=1", Status: 204, Text: "ok"},
			{Kind: "console", Text: "ready: web"}, {Kind: "call-home"}, {Kind: "screenshot"}},
		Deadline: wire.Duration(-1), Warm: true, Instant: true,
	}
	if _, err := c.SetLaunchTemplate(t.Context(), machine.id, want); err != nil {
		t.Fatal(err)
	}
	got, err := c.LaunchTemplate(t.Context(), machine.id)
	if err != nil || fmt.Sprintf("%+v", got.Checks) != fmt.Sprintf("%+v", want.Checks) || got.Address.Gateway != want.Address.Gateway || got.Deadline != want.Deadline {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestBadLaunches: each is refused with the field that is wrong, and the engine never hears of it.
func TestBadLaunches(t *testing.T) {
	w := newWorld(t)
	machine := w.enrol(ca.KindAgent, true)
	_, token, err := w.accounts.NewToken(t.Context(), nil, accounts.Token{Project: "default", Name: "admin", Role: accounts.RoleAdmin}, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := w.raw(true)
	post := func(body string) *wire.Problem {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+wire.PathLaunches, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return problem(t, res)
	}
	for body, field := range map[string]string{
		`"kind":"dance"`:                                                                                      "kind",
		`"kind":"test","stop_source":true`:                                                                    "stop_source",
		`"kind":"test","hold_timeout":"1m"`:                                                                   "hold_timeout",
		`"kind":"cutover","hold_timeout":"25h"`:                                                               "hold_timeout",
		`"kind":"cutover","hold_timeout":"-1s"`:                                                               "hold_timeout",
		`"kind":"cutover","restpoint":"r","stop_source":true`:                                                 "stop_source",
		`"kind":"cutover","template":{"instant":true}`:                                                        "template.instant",
		`"kind":"test","restpoint":"a\u001bb"`:                                                                "restpoint",
		`"kind":"test","template":{"firmware":"coreboot"}`:                                                    "template.firmware",
		`"kind":"test","template":{"bus":"ide"}`:                                                              "template.bus",
		`"kind":"test","template":{"cpus":-1}`:                                                                "template.cpus",
		`"kind":"test","template":{"cpus":1,"type":"c1"}`:                                                     "template.type",
		`"kind":"test","template":{"memory":-1}`:                                                              "template.memory",
		`"kind":"test","template":{"network":"a\nb"}`:                                                         "template.network",
		`"kind":"test","template":{"deadline":"9000h"}`:                                                       "template.deadline",
		`"kind":"test","template":{"forward":[0]}`:                                                            "template.forward",
		`"kind":"test","template":{"forward":[22,22]}`:                                                        "template.forward",
		`"kind":"test","template":{"groups":[""]}`:                                                            "template.groups",
		`"kind":"test","template":{"settings":{"":"x"}}`:                                                      "template.settings",
		`"kind":"test","template":{"address":{"prefixes":[]}}`:                                                "template.address",
		`"kind":"test","template":{"address":{"prefixes":["224.0.0.1/24"]}}`:                                  "template.address",
		`"kind":"test","template":{"address":{"prefixes":["192.0.2.7/24"],"gateway":"198.51.100.1"}}`:         "template.gateway",
		`"kind":"test","template":{"address":{"prefixes":["192.0.2.7/24"],"dns":["0.0.0.0"]}}`:                "template.dns",
		`"kind":"test","template":{"checks":[{"kind":"ping"}]}`:                                               "template.checks",
		`"kind":"test","template":{"checks":[{"kind":"tcp"}]}`:                                                "template.checks",
		`"kind":"test","template":{"checks":[{"kind":"boot","port":1}]}`:                                      "template.checks",
		`"kind":"test","template":{"checks":[{"kind":"console"}]}`:                                            "template.checks",
		`"kind":"test","template":{"checks":[{"kind":"tcp","port":1,"text":"x"}]}`:                            "template.checks",
		`"kind":"test","template":{"checks":[{"kind":"tcp","port":1,"path":"/"}]}`:                            "template.checks",
		`"kind":"test","template":{"checks":[{"kind":"http","port":1,"path":"x"}]}`:                           "template.checks",
		`"kind":"test","template":{"checks":[{"kind":"http","port":1,"path":"/ HTTP/1.1"}]}`:                  "template.checks",
		`"kind":"test","template":{"checks":[{"kind":"http","port":1,"status":7}]}`:                           "template.checks",
		`"kind":"test","template":{"checks":[{"kind":"boot","timeout":"-1s"}]}`:                               "template.checks",
		`"kind":"test","template":{"checks":[` + strings.Repeat(`{"kind":"boot"},`, 16) + `{"kind":"boot"}]}`: "template.checks",
	} {
		if p := post(`{"machine":"` + machine.id + `",` + body + `}`); p.Code != wire.CodeBadRequest || p.Field != field {
			t.Errorf("%.120s: field %q of %v", body, p.Field, p)
		}
	}
	for body, code := range map[string]string{
		`{"kind":"test"}`: wire.CodeBadRequest, `{"kind":"test","machine":"x","king":1}`: wire.CodeBadRequest, `{"kind":"test","template":{"address":{"prefixes":["x"]}}}`: wire.CodeBadRequest,
		`{"kind":"` + strings.Repeat("x", 65<<10) + `"}`: wire.CodeTooLarge,
	} {
		if p := post(body); p.Code != code {
			t.Errorf("%.120s: %v", body, p)
		}
	}
	if len(w.launches.started) != 0 {
		t.Errorf("the engine heard of %v", w.launches.started)
	}
}

// TestGuestsAreHostile: what a machine wrote or showed comes with a type that is not its choice, within limits, and no browser runs it.
func TestGuestsAreHostile(t *testing.T) {
	w := newWorld(t)
	machine, admin := w.enrol(ca.KindAgent, true), w.admin()
	if _, err := admin.StartLaunch(t.Context(), wire.LaunchRequest{Kind: wire.LaunchTest, Machine: machine.id}); err != nil {
		t.Fatal(err)
	}
	_, token, err := w.accounts.NewToken(t.Context(), nil, accounts.Token{Project: "default", Name: "v", Role: accounts.RoleViewer}, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.launches.console = append(bytes.Repeat([]byte("x"), providers.ConsoleLimit), "<script>alert(1)</script>\x1b[2J\x00\xff"...)
	for path, kind := range map[string]string{wire.PathLaunchConsole: "text/plain; charset=utf-8", wire.PathLaunchScreenshot: "image/png"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+wire.Path(path, "l0"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := w.raw(true).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		h := res.Header
		if h.Get("Content-Type") != kind || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != "default-src 'none'; sandbox" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, h)
		}
	}
	b, err := admin.LaunchConsole(t.Context(), "l0")
	if err != nil || len(b) != providers.ConsoleLimit || !bytes.HasSuffix(b, []byte("\x1b[2J\x00\xff")) {
		t.Errorf("%d bytes of console, %v", len(b), err)
	}
	if b, err := admin.LaunchScreenshot(t.Context(), "l0"); err != nil || !bytes.Equal(b, w.launches.screen) {
		t.Errorf("screenshot: %q, %v", b, err)
	}
	for _, bad := range [][]byte{nil, []byte("<svg onload=alert(1)>"), append(slices.Clone(pngSignature), make([]byte, providers.ScreenshotLimit)...)} {
		w.launches.screen = bad
		wantCode(t, fmt.Sprintf("a screenshot %.10q", bad), second(admin.LaunchScreenshot(t.Context(), "l0")), wire.CodeProvider)
	}
}

// TestProviderErrors: each class of a provider's errors has a code of its own and keeps its words; other errors keep theirs to the log.
func TestProviderErrors(t *testing.T) {
	w := newWorld(t)
	c := w.admin()
	for err, code := range map[error]string{
		providers.ErrNotFound: wire.CodeNotFound, providers.ErrDenied: wire.CodeProvider, providers.ErrQuota: wire.CodeFull, providers.ErrConflict: wire.CodeConflict,
		providers.ErrTryAgain: wire.CodeUnavailable, providers.ErrInvalid: wire.CodeBadRequest, errors.New("boom"): wire.CodeInternal,
	} {
		w.launches.fail = fmt.Errorf("list volumes: %w", err)
		_, got := c.Orphans(t.Context(), "here")
		wantCode(t, err.Error(), got, code)
		if got != nil && strings.Contains(got.Error(), "boom") || got != nil && code != wire.CodeInternal && !strings.Contains(got.Error(), "list volumes") {
			t.Errorf("%v: says %v", err, got)
		}
		_, got = c.CheckProvider(t.Context(), "here", nil)
		wantCode(t, "check: "+err.Error(), got, code)
	}
}

func TestProviders(t *testing.T) {
	w := newWorld(t)
	c := w.admin()
	if list, err := c.Providers(t.Context()); err != nil || len(list) != 1 || list[0].Name != "here" {
		t.Errorf("%v, %v", list, err)
	}
	var lines []string
	check, err := c.CheckProvider(t.Context(), "here", func(l string) { lines = append(lines, l) })
	if err != nil || check.Passed != 2 || !slices.Equal(lines, []string{"volumes", "here"}) {
		t.Errorf("%+v, %q, %v", check, lines, err)
	}
	if list, err := c.Orphans(t.Context(), "here"); err != nil || len(list) != 1 || w.launches.swept {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := c.SweepOrphans(t.Context(), "here"); err != nil || len(list) != 1 || !w.launches.swept {
		t.Errorf("%v, %v", list, err)
	}
}

// TestCallHome: a copy calls with its secret and nothing else; a refusal tells nobody why; and nobody may call without end.
func TestCallHome(t *testing.T) {
	w := newWorld(t)
	nobody := w.client(wire.ClientOptions{})
	call := func(h wire.CallHome) error {
		_, err := nobody.Do(t.Context(), http.MethodPost, wire.PathCallHome, h, nil)
		return err
	}
	good := wire.CallHome{Launch: "l1", Secret: "s", Hostname: "web1", BootID: "b"}
	if err := call(good); err != nil || len(w.launches.calls) != 1 || w.launches.calls[0] != good {
		t.Errorf("%v, %v", w.launches.calls, err)
	}
	for _, bad := range []wire.CallHome{{Launch: "l1"}, {Secret: "s"}, {Launch: "l1", Secret: "s", Hostname: "\x1b[2J"}, {Launch: "l1", Secret: strings.Repeat("s", 300)}} {
		wantCode(t, fmt.Sprintf("%.60v", bad), call(bad), wire.CodeBadRequest)
	}
	wantCode(t, "a long body", call(wire.CallHome{Launch: strings.Repeat("l", 8<<10)}), wire.CodeTooLarge)
	texts := map[string]bool{}
	for _, err := range []error{
		wire.NewProblem(404, wire.CodeNotFound, "there is no launch l1"), wire.NewProblem(403, wire.CodeForbidden, "wrong secret"), wire.NewProblem(409, wire.CodeConflict, "it has ended"),
	} {
		w.launches.fail = err
		got := call(good)
		wantCode(t, err.Error(), got, wire.CodeForbidden)
		texts[got.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("refusals differ: %v", texts)
	}
	w.launches.fail = fmt.Errorf("secret thing of the provider: %w", providers.ErrConflict)
	if err := call(good); !wire.HasCode(err, wire.CodeInternal) || strings.Contains(err.Error(), "secret thing") {
		t.Errorf("a stranger hears %v", err)
	}
	for n := 0; ; n++ {
		err := call(wire.CallHome{})
		if wire.HasCode(err, wire.CodeUnavailable) {
			break
		}
		if n > 100*enrolBurst {
			t.Fatal("a stranger may call without end")
		}
	}
	tok := w.enrolToken(ca.KindNode)
	q, _ := enrolRequest(t, tok, ca.KindNode)
	if _, err := nobody.Enroll(t.Context(), q); err != nil {
		t.Errorf("calls of copies keep a node from enrolling: %v", err)
	}
}
