package api

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Whoever enrols has no identity yet, so he is limited by where he comes from. A fleet behind one address translator enrols within
// the burst, or a little later: clients try again.
const (
	enrolRate    = rate.Limit(5) // in a second, from one address
	enrolBurst   = 100
	maxAddresses = 4096
)

// addresses limits requests by the address that they come from. Memory is bounded: when there are too many addresses, those that
// have been quiet are forgotten, and if none has, new ones share one limit. Any number of goroutines may use it.
type addresses struct {
	rate  rate.Limit
	burst int
	max   int

	mu     sync.Mutex
	each   map[netip.Prefix]*rate.Limiter // guarded by mu
	others *rate.Limiter
}

func newAddresses(r rate.Limit, burst, limit int) *addresses {
	return &addresses{rate: r, burst: burst, max: limit, each: map[netip.Prefix]*rate.Limiter{}, others: rate.NewLimiter(r, burst)}
}

// allow takes a request from remote (host:port) into account, and reports whether it may go on; if not, after what time the
// next one may.
func (a *addresses) allow(remote string, now time.Time) (wait time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.limiter(source(remote), now)
	if l.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - l.TokensAt(now)
	return time.Duration(missing / float64(a.rate) * float64(time.Second)), false
}

func (a *addresses) limiter(from netip.Prefix, now time.Time) *rate.Limiter {
	if l := a.each[from]; l != nil {
		return l
	}
	if len(a.each) >= a.max {
		for k, l := range a.each {
			if l.TokensAt(now) >= float64(a.burst) { // as if it had never come
				delete(a.each, k)
			}
		}
	}
	if len(a.each) >= a.max {
		return a.others
	}
	l := rate.NewLimiter(a.rate, a.burst)
	a.each[from] = l
	return l
}

// source is who shares a limit: one IPv4 address, or the 64 bits of IPv6 that one customer has at least. What is no address shares
// one.
func source(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := ap.Addr().Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
