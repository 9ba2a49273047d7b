package catalogtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/memstore"
)

// ErrDead is what a database says whose master has died.
var ErrDead = errors.New("the master is dead")

// DB is a database that can die as its master does: between two transactions, or after one that nobody hears of.
type DB struct {
	store.Store

	mu    sync.Mutex
	armed bool // guarded by mu
	left  int  // guarded by mu; transactions that still go well
	heard bool // guarded by mu; false: one more is made durable, but its caller gets ErrDead
	dead  bool // guarded by mu
	full  bool // guarded by mu
}

// Fill makes the disk full, or gives it room again. While it is full every Update that goes well so far fails with
// store.ErrFull when it ends.
func (d *DB) Fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// DieAfter lets n more Updates go well. The next one is not done, or, with unheard, done but not answered; from then on nothing works.
func (d *DB) DieAfter(n int, unheard bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed, d.left, d.heard = true, n, !unheard
}

// Dead reports whether it has come to that.
func (d *DB) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// View implements store.Store.
func (d *DB) View(ctx context.Context, fn func(store.Reader) error) error {
	if d.Dead() {
		return ErrDead
	}
	return d.Store.View(ctx, fn)
}

// Update implements store.Store.
func (d *DB) Update(ctx context.Context, fn func(store.Writer) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return ErrDead
	}
	if d.full {
		return d.Store.Update(ctx, func(tx store.Writer) error {
			if err := fn(tx); err != nil {
				return err
			}
			return fmt.Errorf("%w: no space left on device", store.ErrFull)
		})
	}
	if !d.armed || d.left > 0 {
		d.left--
		return d.Store.Update(ctx, fn)
	}
	d.dead = true
	if !d.heard {
		return errors.Join(ErrDead, d.Store.Update(ctx, fn))
	}
	return ErrDead
}

// Bucket is a bucket in memory whose requests can fail.
type Bucket struct {
	*memstore.Store

	mu   sync.Mutex
	fail func(op, name string) (before bool, err error) // guarded by mu
	size int64                                          // guarded by mu; of every object that Stat is asked for, if not 0
}

// Pretend makes Stat find every object, of that many bytes, for benchmarks of what comes after.
func (b *Bucket) Pretend(size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size = size
}

// Fail makes requests fail as fn says: before they take effect or after. op is "put", "get", "stat" or "delete". A nil fn ends it.
func (b *Bucket) Fail(fn func(op, name string) (before bool, err error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = fn
}

// FailRestpoints makes every PUT of a restpoint fail, before or after it is stored.
func (b *Bucket) FailRestpoints(before bool) {
	b.Fail(func(op, name string) (bool, error) {
		if op == "put" && strings.HasPrefix(name, "restpoints/") {
			return before, staging.ErrTemporary
		}
		return false, nil
	})
}

func (b *Bucket) ask(op, name string) (before bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == nil {
		return false, nil
	}
	return b.fail(op, name)
}

// Put implements staging.Store.
func (b *Bucket) Put(ctx context.Context, name string, body []byte, o *staging.PutOptions) error {
	before, err := b.ask("put", name)
	if before {
		return err
	}
	return errors.Join(b.Store.Put(ctx, name, body, o), err)
}

// Get implements staging.Store.
func (b *Bucket) Get(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if _, err := b.ask("get", name); err != nil {
		return nil, err
	}
	return b.Store.Get(ctx, name, off, length)
}

// Stat implements staging.Store.
func (b *Bucket) Stat(ctx context.Context, name string) (staging.Info, error) {
	if _, err := b.ask("stat", name); err != nil {
		return staging.Info{}, err
	}
	b.mu.Lock()
	size := b.size
	b.mu.Unlock()
	if size != 0 {
		return staging.Info{Name: name, Size: size}, nil
	}
	return b.Store.Stat(ctx, name)
}

// Delete implements staging.Store.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	before, err := b.ask("delete", name)
	if before {
		return err
	}
	return errors.Join(b.Store.Delete(ctx, name), err)
}
