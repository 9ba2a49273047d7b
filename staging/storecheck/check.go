// Package storecheck holds what every staging.Store must keep: Check runs over a live bucket, also a user's own, and storetest
// wraps it for tests. Check writes only below the prefix that it is given and removes what it wrote. It may run beside other users
// of the bucket, but two runs at once need two prefixes.
package storecheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/staging"
)

// Options size a Check. The zero value, or nil, is the full suite.
type Options struct {
	Objects   int      // to list, 1001 when 0: more than one page of S3
	LargeSize int      // bytes of the large object, 32 MiB when 0
	Hosts     []string // "host:port" that signed URLs may lead to; none: signing is not checked
	CA        []byte   // DER, of the server behind signed URLs; may be nil
}

// Result is the outcome of one part of a Check; Err is nil when the store does as it must.
type Result struct {
	Name string
	Err  error
}

type checker struct {
	store  staging.Store
	prefix string
	opts   Options
}

// Check runs every part over store, below prefix ("check/x/"), and reports each as it ends. It stops early only when ctx ends.
func Check(ctx context.Context, store staging.Store, prefix string, opts *Options, report func(Result)) {
	c := &checker{store: store, prefix: prefix}
	if opts != nil {
		c.opts = *opts
	}
	if c.opts.Objects == 0 {
		c.opts.Objects = 1001
	}
	if c.opts.LargeSize == 0 {
		c.opts.LargeSize = 32 << 20
	}
	parts := []struct {
		name string
		run  func(context.Context) error
	}{
		{"put and get", c.putGet},
		{"empty object", c.empty},
		{"ranges", c.ranges},
		{"absent objects", c.absent},
		{"overwrite", c.overwrite},
		{"put if absent", c.ifAbsent},
		{"race for one name", c.race},
		{"list", c.list},
		{"large object", c.large},
		{"names", c.names},
		{"ended context", c.ended},
	}
	if signer, ok := store.(staging.Signer); ok && len(c.opts.Hosts) > 0 {
		s := &signedChecker{checker: c, signer: signer}
		parts = append(parts, s.parts()...)
	}
	for _, p := range parts {
		if ctx.Err() != nil {
			return
		}
		err := p.run(ctx)
		report(Result{Name: p.name, Err: errors.Join(err, c.clean(ctx))})
	}
}

// clean removes all objects below the prefix.
func (c *checker) clean(ctx context.Context) error {
	var names []string
	err := c.store.List(ctx, c.prefix, "", func(i staging.Info) error {
		names = append(names, i.Name)
		return nil
	})
	for _, n := range names {
		err = errors.Join(err, c.store.Delete(ctx, n))
	}
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// body returns size bytes that do not compress and differ by seed.
func body(seed uint64, size int) []byte {
	b := make([]byte, size)
	s := [32]byte{byte(seed), byte(seed >> 8)}
	_, _ = rand.NewChaCha8(s).Read(b) // never fails
	return b
}

func (c *checker) read(ctx context.Context, name string, off, length int64) ([]byte, error) {
	r, err := c.store.Get(ctx, name, off, length)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func (c *checker) holds(ctx context.Context, name string, want []byte) error {
	got, err := c.read(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("get %s: %d bytes that are not the %d that were put", name, len(got), len(want))
	}
	i, err := c.store.Stat(ctx, name)
	if err != nil {
		return err
	}
	if i.Size != int64(len(want)) || i.Name != name {
		return fmt.Errorf("stat %s: %q of %d bytes, want %d", name, i.Name, i.Size, len(want))
	}
	return nil
}

func (c *checker) putGet(ctx context.Context) error {
	name, b := c.prefix+"dir/sub/object-1_2.x", body(1, 70_001)
	if err := c.store.Put(ctx, name, b, nil); err != nil {
		return err
	}
	return c.holds(ctx, name, b)
}

func (c *checker) empty(ctx context.Context) error {
	name := c.prefix + "empty"
	if err := c.store.Put(ctx, name, nil, nil); err != nil {
		return err
	}
	return c.holds(ctx, name, nil)
}

func (c *checker) large(ctx context.Context) error {
	name, b := c.prefix+"large", body(2, c.opts.LargeSize)
	if err := c.store.Put(ctx, name, b, &staging.PutOptions{IfAbsent: true}); err != nil {
		return err
	}
	return c.holds(ctx, name, b)
}

func (c *checker) ranges(ctx context.Context) error {
	name, b := c.prefix+"ranges", body(3, 1000)
	if err := c.store.Put(ctx, name, b, nil); err != nil {
		return err
	}
	for _, r := range []struct{ off, length, from, to int64 }{
		{0, 1, 0, 1}, {0, 1000, 0, 1000}, {999, 1, 999, 1000}, {10, 20, 10, 30}, {500, -1, 500, 1000}, {900, 500, 900, 1000},
		{7, 0, 7, 7},
	} {
		got, err := c.read(ctx, name, r.off, r.length)
		if err != nil {
			return fmt.Errorf("range %d+%d: %w", r.off, r.length, err)
		}
		if !bytes.Equal(got, b[r.from:r.to]) {
			return fmt.Errorf("range %d+%d: wrong bytes (%d of them)", r.off, r.length, len(got))
		}
	}
	if got, err := c.read(ctx, name, 1000, 10); len(got) > 0 || (err != nil && !errors.Is(err, staging.ErrRange) && !errors.Is(err, io.EOF)) {
		return fmt.Errorf("range past the end: %d bytes, %w", len(got), err)
	}
	return nil
}

func (c *checker) absent(ctx context.Context) error {
	name := c.prefix + "absent"
	if _, err := c.store.Stat(ctx, name); !errors.Is(err, staging.ErrNotFound) {
		return fmt.Errorf("stat: %w, want ErrNotFound", orNone(err))
	}
	if _, err := c.read(ctx, name, 0, -1); !errors.Is(err, staging.ErrNotFound) {
		return fmt.Errorf("get: %w, want ErrNotFound", orNone(err))
	}
	return c.store.Delete(ctx, name)
}

var errNone = errors.New("no error")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

func (c *checker) overwrite(ctx context.Context) error {
	name := c.prefix + "overwrite"
	for i, size := range []int{5000, 10} {
		b := body(uint64(4+i), size)
		if err := c.store.Put(ctx, name, b, nil); err != nil {
			return err
		}
		if err := c.holds(ctx, name, b); err != nil {
			return err
		}
	}
	if err := c.store.Delete(ctx, name); err != nil {
		return err
	}
	if _, err := c.store.Stat(ctx, name); !errors.Is(err, staging.ErrNotFound) {
		return fmt.Errorf("stat after delete: %w, want ErrNotFound", orNone(err))
	}
	return nil
}

func (c *checker) ifAbsent(ctx context.Context) error {
	name, b := c.prefix+"once", body(6, 100)
	once := &staging.PutOptions{IfAbsent: true}
	if err := c.store.Put(ctx, name, b, once); err != nil {
		return err
	}
	if err := c.store.Put(ctx, name, body(7, 100), once); !errors.Is(err, staging.ErrExists) {
		return fmt.Errorf("second put: %w, want ErrExists", orNone(err))
	}
	return c.holds(ctx, name, b)
}

// race lets 32 writers of different bytes meet. A writer may be told to try again, as S3 does with 409.
func (c *checker) race(ctx context.Context) error {
	const writers = 32
	name := c.prefix + "race"
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			errs[i] = c.store.Put(ctx, name, body(uint64(100+i), 10_000+i), &staging.PutOptions{IfAbsent: true})
		})
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			return fmt.Errorf("writers %d and %d both won", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, staging.ErrExists) && !errors.Is(err, staging.ErrTemporary):
			return err
		}
	}
	if winner < 0 {
		return errors.New("no writer won")
	}
	return c.holds(ctx, name, body(uint64(100+winner), 10_000+winner))
}

func (c *checker) list(ctx context.Context) error {
	var want []string
	work := make(chan string)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range 8 {
		wg.Go(func() {
			for n := range work {
				if err := c.store.Put(ctx, n, []byte("x"), nil); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range c.opts.Objects {
		// Names in which byte order and the order of a walk through directories differ.
		n := fmt.Sprintf("%slist/%c%c/%04d", c.prefix, 'a'+i%3, "-.0"[i/3%3], i)
		want = append(want, n)
		work <- n
	}
	close(work)
	wg.Wait()
	if failed != nil {
		return failed
	}
	slices.Sort(want)
	mid := len(want) / 2
	for _, q := range []struct {
		prefix, after string
		want          []string
	}{
		{c.prefix + "list/", "", want},
		{c.prefix + "list/", want[mid], want[mid+1:]},
		{c.prefix + "list/a", "", slices.DeleteFunc(slices.Clone(want), func(n string) bool {
			return !strings.HasPrefix(n, c.prefix+"list/a")
		})},
		{c.prefix + "nothing", "", nil},
	} {
		var got []string
		err := c.store.List(ctx, q.prefix, q.after, func(i staging.Info) error {
			got = append(got, i.Name)
			if i.Size != 1 || i.Modified.IsZero() || time.Since(i.Modified) > 24*time.Hour {
				return fmt.Errorf("list: %s has %d bytes of %s", i.Name, i.Size, i.Modified)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if !slices.Equal(got, q.want) {
			return fmt.Errorf("list %s after %q: %d names, want %d in byte order", q.prefix, q.after, len(got), len(q.want))
		}
	}
	stop := errors.New("stop")
	calls := 0
	err := c.store.List(ctx, c.prefix+"list/", "", func(staging.Info) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		return fmt.Errorf("list that is stopped: %w after %d calls", orNone(err), calls)
	}
	return nil
}

func (c *checker) names(ctx context.Context) error {
	for _, n := range []string{"", "/a", "a/", "a//b", "a/../b", ".", "a/./b", "ä", "a b", "a\nb", "a\x00", "a?b", "a%2fb", "a\\b", strings.Repeat("n", 1000)} {
		if err := c.store.Put(ctx, n, []byte("x"), nil); !errors.Is(err, staging.ErrName) {
			return fmt.Errorf("put %.20q: %w, want ErrName", n, orNone(err))
		}
	}
	return nil
}

func (c *checker) ended(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.store.Put(ctx, c.prefix+"ended", []byte("x"), nil); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("put: %w, want context.Canceled", orNone(err))
	}
	return nil
}
