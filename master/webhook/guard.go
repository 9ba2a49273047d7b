package webhook

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// forbidden are addresses that are nobody's on the Internet: the IANA registries of special-purpose addresses (RFC 6890 and its updates), multicast,
// and addresses of clouds' metadata that lie outside of them. What IPv6 addresses are allowed at all lies in 2000::/3.
var forbidden = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
	"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"168.63.129.16/32",           // Azure's
	"2001::/23",                  // protocol assignments, Teredo with its embedded IPv4 addresses
	"2001:db8::/32", "3fff::/20", // documentation
	"2002::/16", // 6to4: an IPv4 address is in it
)

var globalIPv6 = netip.MustParsePrefix("2000::/3")

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// guard judges addresses.
type guard struct {
	allow []netip.Prefix
	own   func() ([]net.Addr, error) // addresses of this host with their networks
}

func newGuard(allow []netip.Prefix) *guard { return &guard{allow: allow, own: net.InterfaceAddrs} }

// Refused is an address that the master does not speak to.
type Refused struct{ Address, Why string }

// Error implements error.
func (r *Refused) Error() string {
	return fmt.Sprintf("address %s is refused: %s (the master's --webhook-allow lets it through)", r.Address, r.Why)
}

func within(list []netip.Prefix, ip netip.Addr) bool {
	for _, p := range list {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// judge refuses an address of a private or special network, or of a network that this host is in. plain: it would be spoken to without TLS.
func (g *guard) judge(ip netip.Addr, plain bool) error {
	ip = ip.Unmap().WithZone("")
	if within(g.allow, ip) {
		return nil
	}
	refuse := func(why string) error { return &Refused{ip.String(), why} }
	switch {
	case plain:
		return refuse("without TLS only networks are spoken to that were allowed")
	case within(forbidden, ip) || ip.Is6() && !globalIPv6.Contains(ip):
		return refuse("it is private, or not one of the Internet")
	}
	own, err := g.own()
	if err != nil {
		return fmt.Errorf("list own addresses: %w", err)
	}
	for _, a := range own {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Bits() == 0 {
			continue
		}
		if p.Addr().Unmap() == ip || netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Contains(ip) {
			return refuse("it is in a network of the master's own host")
		}
	}
	return nil
}

// control judges the address that a socket is about to be connected to. Names were resolved by then, so whatever a name server says, and however
// it changes its mind, it is this address that counts.
func (g *guard) control(plain bool) func(network, address string, c syscall.RawConn) error {
	return func(network, address string, _ syscall.RawConn) error {
		if network != "tcp4" && network != "tcp6" {
			return &Refused{address, "it is not TCP"}
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return &Refused{address, "it is not an address"}
		}
		return g.judge(ap.Addr(), plain)
	}
}

// client speaks to endpoints: through no proxy, with no cookies, and never elsewhere than where it was sent.
func (g *guard) client(o *Options) *http.Client {
	dial := func(plain bool) func(context.Context, string, string) (net.Conn, error) {
		d := &net.Dialer{Timeout: 10 * time.Second, Resolver: o.Resolver, Control: g.control(plain)}
		return d.DialContext
	}
	secure := dial(false)
	t := &http.Transport{
		DialContext: dial(true), // of http: URLs
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			raw, err := secure(ctx, network, address)
			if err != nil {
				return nil, err
			}
			c := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: o.Roots, NextProtos: []string{"http/1.1"}})
			if err := c.HandshakeContext(ctx); err != nil {
				_ = raw.Close()
				return nil, err
			}
			return c, nil
		},
		DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: timeout, MaxResponseHeaderBytes: 64 << 10,
	}
	return &http.Client{Transport: t, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
