package accounts

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// limits slow down who guesses passwords, and nobody else for longer than a moment:
//
//	a browser that logged in as this user before ─► its own allowance (devices)
//	everybody else ─► the address's allowance ─► the account's allowance ─► or, when that is used up: one try now and then from each address
//
// So a flood against an account, from one address or from many, never shuts its owner out: from a browser that he has used nothing changes,
// and from anywhere else he has a try of his own every pairEvery. Only failures use up an allowance.
type limits struct{ addresses, accounts, pairs, devices *allowances }

// Allowances: how many tries at once, and after what time there is one more.
const (
	addressTries, addressEvery = 10, 6 * time.Second
	accountTries, accountEvery = 20, time.Minute
	pairTries, pairEvery       = 1, 15 * time.Second
	deviceTries, deviceEvery   = 10, 6 * time.Second
	maxAllowances              = 8192 // of each sort
	sharedTries                = 64   // what those share for whom there is no room
)

func newLimits() limits {
	return limits{
		addresses: newAllowances(addressTries, addressEvery, maxAllowances), accounts: newAllowances(accountTries, accountEvery, maxAllowances),
		pairs: newAllowances(pairTries, pairEvery, maxAllowances), devices: newAllowances(deviceTries, deviceEvery, maxAllowances),
	}
}

// try takes a try at an account into account: CodeBusy when there is none left. giveBack is for a try that was good.
func (l *limits) try(account, address, device string, now time.Time) (giveBack func(), err error) {
	if device != "" {
		if wait, ok := l.devices.take(device, now); !ok {
			return nil, slowDown(wait)
		}
		return func() { l.devices.put(device, now) }, nil
	}
	from := source(address).String()
	if wait, ok := l.addresses.take(from, now); !ok {
		return nil, slowDown(wait)
	}
	if _, ok := l.accounts.take(account, now); ok {
		return func() { l.addresses.put(from, now); l.accounts.put(account, now) }, nil
	}
	pair := from + " " + account
	if wait, ok := l.pairs.take(pair, now); !ok {
		return nil, slowDown(wait)
	}
	return func() { l.addresses.put(from, now); l.pairs.put(pair, now) }, nil
}

// TooMany is how long to wait after too many tries; ok is false for other errors. It belongs into Retry-After.
func TooMany(err error) (wait time.Duration, ok bool) {
	var w *tooMany
	if !errors.As(err, &w) {
		return 0, false
	}
	return w.wait, true
}

type tooMany struct {
	*wire.Problem
	wait time.Duration
}

// Unwrap lets errors.As find the problem.
func (t *tooMany) Unwrap() error { return t.Problem }

func slowDown(wait time.Duration) error {
	seconds := int(wait/time.Second) + 1
	return &tooMany{wait: time.Duration(seconds) * time.Second,
		Problem: wire.NewProblem(429, wire.CodeBusy, "too many failed logins").WithNext(fmt.Sprintf("try again in %d seconds", seconds))}
}

// allowances is a table of token buckets. It is bounded: when it is full, those that are as if they had never been used are forgotten, and
// if there are none, newcomers share one. Any number of goroutines may use it.
type allowances struct {
	burst  float64
	every  time.Duration
	max    int
	mu     sync.Mutex
	each   map[string]*bucket // guarded by mu
	shared bucket             // guarded by mu
}

// bucket holds what was left at a moment.
type bucket struct {
	left  float64
	at    time.Time
	burst float64
	every time.Duration
}

func newAllowances(burst int, every time.Duration, most int) *allowances {
	a := &allowances{burst: float64(burst), every: every, max: most, each: map[string]*bucket{}}
	a.shared = bucket{left: sharedTries, burst: sharedTries, every: every / sharedTries}
	return a
}

// now brings a bucket up to a moment. A clock that jumps back takes nothing away.
func (b *bucket) now(at time.Time) {
	if d := at.Sub(b.at); d > 0 {
		b.left = min(b.burst, b.left+d.Seconds()/b.every.Seconds())
	}
	b.at = at
}

// take takes one, or says after what time there is one.
func (a *allowances) take(key string, at time.Time) (wait time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.bucket(key, at)
	b.now(at)
	if b.left >= 1 {
		b.left--
		return 0, true
	}
	return time.Duration((1 - b.left) * float64(b.every)), false
}

// put gives one back.
func (a *allowances) put(key string, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.each[key]; b != nil {
		b.left = min(b.burst, b.left+1)
	}
}

func (a *allowances) bucket(key string, at time.Time) *bucket {
	if b := a.each[key]; b != nil {
		return b
	}
	if len(a.each) >= a.max {
		for k, b := range a.each {
			if b.now(at); b.left >= b.burst {
				delete(a.each, k)
			}
		}
	}
	if len(a.each) >= a.max {
		return &a.shared
	}
	b := &bucket{left: a.burst, at: at, burst: a.burst, every: a.every}
	a.each[key] = b
	return b
}

// source is who shares an allowance: one IPv4 address, or the 64 bits of IPv6 that one customer has at least. What is no address (host or
// host:port) shares one.
func source(remote string) netip.Prefix {
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		ap, err := netip.ParseAddrPort(remote)
		if err != nil {
			return netip.Prefix{}
		}
		addr = ap.Addr()
	}
	addr, bits := addr.Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
