// Package catalogtest is a world for tests of what is built on master/catalog: a catalog over a real database and a bucket in memory,
// both of which can be made to fail, clocks that stand still, and a small agent that makes real packs and manifests.
package catalogtest

import (
	"context"
	"crypto/ed25519"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/staging/memstore"
)

// Env is the world. Its fields may be replaced before Restart.
type Env struct {
	T         testing.TB
	Catalog   *catalog.Catalog
	DB        *DB
	Bucket    *Bucket
	Keys      *format.Keys
	MasterKey ed25519.PrivateKey
	Clock     *clock.Fake
	Mono      *Mono
	Options   catalog.Options

	path string
	over func(store.Store) store.Store
}

// New makes a world with one catalog in it. o may be nil.
func New(t testing.TB, o *catalog.Options) *Env { t.Helper(); return NewOver(t, o, nil) }

// NewOver is New with a catalog that works on what over makes of the database; nil: on the database itself.
func NewOver(t testing.TB, o *catalog.Options, over func(store.Store) store.Store) *Env {
	t.Helper()
	clk := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	_, masterKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &Env{
		T: t, Keys: format.NewKeys(), MasterKey: masterKey, Clock: clk, Mono: &Mono{},
		Bucket: &Bucket{Store: memstore.New(clk)}, path: filepath.Join(t.TempDir(), "master.db"), over: over,
	}
	if o != nil {
		e.Options = *o
	}
	e.Options.Monotonic = e.Mono
	if e.Options.Logger == nil {
		e.Options.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	e.open()
	t.Cleanup(func() {
		if err := e.DB.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func (e *Env) open() {
	e.T.Helper()
	db, err := boltstore.Open(e.path, nil)
	if err != nil {
		e.T.Fatal(err)
	}
	e.DB = &DB{Store: db}
	var over store.Store = e.DB
	if e.over != nil {
		over = e.over(over)
	}
	if e.Catalog, err = catalog.New(over, e.Bucket, keyRing{e.Keys}, e.MasterKey, e.Clock, &e.Options); err != nil {
		e.T.Fatal(err)
	}
}

// Restart is what a master's death and new start leave: the database and the bucket. Faults are over. Recover is not called.
func (e *Env) Restart() {
	e.T.Helper()
	if err := e.DB.Close(); err != nil {
		e.T.Fatal(err)
	}
	e.Bucket.Fail(nil)
	e.open()
}

// Tick runs a tick that must not fail.
func (e *Env) Tick() {
	e.T.Helper()
	if err := e.Catalog.Tick(e.T.Context()); err != nil {
		e.T.Fatalf("tick: %v", err)
	}
}

// Pass lets time pass for clocks of both kinds.
func (e *Env) Pass(d time.Duration) {
	e.Clock.Advance(d)
	e.Mono.Advance(d)
}

// keyRing gives all projects the same keys.
type keyRing struct{ keys *format.Keys }

func (k keyRing) Keys(context.Context, string) (*format.Keys, error) { return k.keys, nil }

// Mono is a catalog.Monotonic that moves when told.
type Mono struct {
	mu sync.Mutex
	d  time.Duration // guarded by mu
}

// Elapsed implements catalog.Monotonic.
func (m *Mono) Elapsed() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.d
}

// Advance moves it.
func (m *Mono) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.d += d
}
