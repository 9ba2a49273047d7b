package webhook

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestJudge(t *testing.T) {
	g := newGuard(nil)
	g.own = func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.IPv4(93, 184, 216, 10), Mask: net.CIDRMask(24, 32)}, &net.IPNet{IP: net.ParseIP("2606:2800::10"), Mask: net.CIDRMask(64, 128)}}, nil
	}
	for _, a := range []string{
		"127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.100.100.200",
		"169.254.169.254", "169.254.0.1", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1",
		"240.0.0.1", "255.255.255.255", "192.88.99.1", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
		"64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "fe80::1", "fe80::1%lo", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
		"2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "4000::1", "93.184.216.10", "93.184.216.200", "2606:2800::10", "2606:2800::ffff", "::ffff:93.184.216.10",
	} {
		var r *Refused
		if err := g.judge(netip.MustParseAddr(a), false); !errors.As(err, &r) {
			t.Errorf("%s is let through: %v", a, err)
		}
	}
	for _, a := range []string{"93.184.217.1", "1.1.1.1", "172.32.0.1", "172.15.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111", "2a00::1", "2001:4860::8888", "::ffff:1.1.1.1"} {
		if err := g.judge(netip.MustParseAddr(a), false); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		if err := g.judge(netip.MustParseAddr(a), true); err == nil {
			t.Errorf("%s is spoken to without TLS", a)
		}
	}
	g.allow = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	for a, ok := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false} {
		if err := g.judge(netip.MustParseAddr(a), true); (err == nil) != ok {
			t.Errorf("%s: %v", a, err)
		}
	}
	g.own = func() ([]net.Addr, error) { return nil, errors.New("no list") }
	if g.judge(netip.MustParseAddr("1.1.1.1"), false) == nil {
		t.Error("let through although own networks are not known")
	}
	if g.control(false)("unix", "/run/docker.sock", nil) == nil || g.control(false)("tcp4", "nonsense", nil) == nil || g.control(false)("udp4", "1.1.1.1:53", nil) == nil {
		t.Error("something that is no TCP address is let through")
	}
}

// nameServer answers questions for addresses with what say says, at the time of each question.
func nameServer(t *testing.T, say func(name string, n int64) []string) *net.Resolver {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			size, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			for _, s := range say(q.Name.String(), n.Add(1)) {
				a := netip.MustParseAddr(s)
				h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
				switch {
				case a.Is4() && q.Type == dnsmessage.TypeA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
				case a.Is6() && q.Type == dnsmessage.TypeAAAA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
			b, err := m.Pack()
			if err != nil {
				continue
			}
			if _, err := c.WriteTo(b, from); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", c.LocalAddr().String())
	}}
}

// forbiddenServer listens where nobody may come, and counts who does.
func forbiddenServer(t *testing.T, address string) (port string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, connections
}

// TestHostileNames: the endpoint's address is 127.0.0.1, which this test allows; 127.0.0.2 and the rest stand for the master's own network. Whatever
// a name server says, and whenever, nobody connects there.
func TestHostileNames(t *testing.T) {
	for name, say := range map[string]func(string, int64) []string{
		"forbidden at once":    func(string, int64) []string { return []string{"127.0.0.2"} },
		"forbidden later":      nil, // below
		"both":                 func(string, int64) []string { return []string{"127.0.0.2", "127.0.0.3"} },
		"mapped":               func(string, int64) []string { return []string{"::ffff:127.0.0.2"} },
		"this host":            func(string, int64) []string { return []string{"0.0.0.0", "::"} },
		"link-local, metadata": func(string, int64) []string { return []string{"169.254.169.254", "fe80::1", "fd00:ec2::254"} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, port, _ := net.SplitHostPort(w.endpoint.Listener.Addr().String())
			_, connections := forbiddenServer(t, "127.0.0.2:"+port) // a connection there would be seen
			rebind := say == nil
			var turned atomic.Bool
			if rebind { // first the endpoint, then the own network
				say = func(string, int64) []string {
					if turned.Load() {
						return []string{"127.0.0.2"}
					}
					return []string{"127.0.0.1"}
				}
			}
			w.options.Resolver = nameServer(t, say)
			w.Service = New(w.db, w.clock, &w.options)
			h, _, err := w.Create(t.Context(), "default", Spec{URL: "https://example.com:" + port + "/", Types: []string{"*"}, Enabled: true})
			if err != nil {
				t.Fatal(err)
			}
			if rebind {
				w.emit("a.b")
				w.round()
				if d := w.log(h)[0]; d.State != Delivered {
					t.Fatalf("%+v", d)
				}
				turned.Store(true)
			}
			w.emit("a.b")
			w.round()
			d := w.log(h)[0]
			if d.State == Delivered || !strings.Contains(d.Last[0].Error, "is refused") {
				t.Errorf("%+v", d)
			}
			if connections.Load() != 0 {
				t.Errorf("%d connections to where nobody may come", connections.Load())
			}
		})
	}
}

// TestForbiddenOnesAreSkipped: of several addresses the one that may be reached is.
func TestForbiddenOnesAreSkipped(t *testing.T) {
	w := newWorld(t)
	_, port, _ := net.SplitHostPort(w.endpoint.Listener.Addr().String())
	_, connections := forbiddenServer(t, "127.0.0.2:"+port)
	w.options.Resolver = nameServer(t, func(string, int64) []string { return []string{"127.0.0.2", "127.0.0.1"} })
	w.Service = New(w.db, w.clock, &w.options)
	h, _, err := w.Create(t.Context(), "default", Spec{URL: "https://example.com:" + port + "/", Types: []string{"*"}, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	w.emit("a.b")
	w.round()
	if d := w.log(h)[0]; d.State != Delivered || connections.Load() != 0 {
		t.Errorf("%+v, %d connections to where nobody may come", d, connections.Load())
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	w := newWorld(t)
	port, connections := forbiddenServer(t, "127.0.0.2:0")
	for _, to := range []string{"http://127.0.0.2:" + port + "/", "https://127.0.0.2:" + port + "/", w.endpoint.URL + "/elsewhere", "file:///etc/passwd"} {
		h, _ := w.hook("*")
		w.answers(func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, to, http.StatusTemporaryRedirect) })
		w.emit("a.b")
		w.round()
		if d := w.log(h)[0]; d.State != Waiting || d.Last[0].Status != 307 || !strings.Contains(d.Last[0].Error, "redirects are not followed") {
			t.Errorf("%+v", d)
		}
		if n := len(w.requests()); n != 1 || connections.Load() != 0 {
			t.Errorf("%d requests, %d connections elsewhere", n, connections.Load())
		}
		if err := w.Remove(t.Context(), "default", h.ID, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// TestProxiesAreNotUsed: a proxy would connect for the master, to wherever.
func TestProxiesAreNotUsed(t *testing.T) {
	port, connections := forbiddenServer(t, "127.0.0.2:0")
	for _, v := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(v, "http://127.0.0.2:"+port)
	}
	w := newWorld(t)
	h, _ := w.hook("*")
	w.emit("a.b")
	w.round()
	if d := w.log(h)[0]; d.State != Delivered || connections.Load() != 0 {
		t.Errorf("%+v, %d connections to the proxy", d, connections.Load())
	}
}

// TestTransport: plain HTTP within allowed networks only, and no certificate that nobody vouches for.
func TestTransport(t *testing.T) {
	w := newWorld(t)
	plain := httptest.NewServer(http.HandlerFunc(w.take))
	defer plain.Close()
	ok, _, err := w.Create(t.Context(), "default", Spec{URL: plain.URL, Types: []string{"*"}, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	stranger := httptest.NewUnstartedServer(http.HandlerFunc(w.take))
	stranger.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelDebug)
	stranger.StartTLS()
	defer stranger.Close()
	w.options.Roots = nil
	w.Service = New(w.db, w.clock, &w.options)
	bad, _, err := w.Create(t.Context(), "default", Spec{URL: stranger.URL, Types: []string{"*"}, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	w.emit("a.b")
	w.round()
	if d := w.log(ok)[0]; d.State != Delivered {
		t.Errorf("%+v", d)
	}
	if d := w.log(bad)[0]; d.State == Delivered || !strings.Contains(d.Last[0].Error, "certificate") {
		t.Errorf("%+v", d)
	}
}
