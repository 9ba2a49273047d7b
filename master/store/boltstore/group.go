package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/openmigrate/openmigrate/master/store"
)

// Writes that come at once share a transaction of the file: what makes one durable (two fsyncs) is most of what it costs. While a transaction is being
// made durable those who want to write wait in line; who comes first then writes for all of them.
//
//	Update ─► line ─► writer: fn, fn, fn … in one bolt.Tx ─► commit ─► each is told of its own fn
//
// An fn sees what those before it wrote, which is as if they had run alone, in that order. One that fails, or panics, or whose context ended, is undone by
// itself: what it wrote over is kept while it runs, if others are in the transaction. When the commit fails all have failed.
const (
	maxGroup  = 128                    // updates in one transaction
	groupTime = 100 * time.Millisecond // after which no further one begins: readers see nothing of it yet
)

// update is one who waits in line.
type update struct {
	ctx  context.Context
	fn   func(store.Writer) error
	done chan struct{} // closed when err and panic are final
	err  error
	why  any // what fn panicked with
}

// Update runs fn and makes what it wrote durable, or none of it: when fn returns an error or panics, or ctx ends before
// fn returns, everything is as before. fn may run in the goroutine of another caller.
func (s *Store) Update(ctx context.Context, fn func(store.Writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u := &update{ctx: ctx, fn: fn, done: make(chan struct{})}
	s.mu.Lock()
	s.line = append(s.line, u)
	s.mu.Unlock()
	select {
	case s.writer <- struct{}{}:
		s.writeFor(u)
		<-s.writer
	case <-u.done:
	case <-ctx.Done():
		if s.leave(u) {
			return ctx.Err()
		}
		<-u.done // somebody has begun it
	}
	if u.why != nil {
		panic(u.why)
	}
	return u.err
}

// leave takes u out of the line, unless somebody has it already.
func (s *Store) leave(u *update) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.line {
		if s.line[i] == u {
			s.line = append(s.line[:i], s.line[i+1:]...)
			return true
		}
	}
	return false
}

// writeFor writes until u, which may have been written for already, is done. The caller holds the token.
func (s *Store) writeFor(u *update) {
	for {
		select {
		case <-u.done:
			return
		default:
		}
		s.mu.Lock()
		n := min(len(s.line), maxGroup)
		group := append([]*update(nil), s.line[:n]...)
		s.line = append(s.line[:0], s.line[n:]...)
		s.mu.Unlock()
		s.write(group)
	}
}

// errAll: all that a transaction would have written was undone.
var errAll = errors.New("nothing is left to write")

// write runs a group in one transaction. Those for whom there was no time go back to the head of the line.
func (s *Store) write(group []*update) {
	began, ran, good := time.Now(), 0, 0
	err := s.db.Update(func(t *bolt.Tx) error {
		shared := newTx(context.Background(), t)
		for _, u := range group {
			if ran > 0 && time.Since(began) > groupTime {
				break
			}
			ran++
			shared.ctx = u.ctx
			if err := u.run(shared, len(group) > 1); err != nil {
				return err
			}
			if u.err == nil && u.why == nil {
				good++
			}
		}
		if good == 0 {
			return errAll
		}
		return nil
	})
	s.mu.Lock()
	s.line = append(group[ran:len(group):len(group)], s.line...)
	s.mu.Unlock()
	for _, u := range group[:ran] {
		if u.err == nil && u.why == nil && err != nil {
			u.err = asFull(err)
		}
		u.err = asFull(u.err)
		close(u.done)
	}
}

// run calls fn, and undoes what it did if it fails. An error says that this was not possible: nothing of the transaction may stay.
func (u *update) run(t *tx, others bool) error {
	if u.err = u.ctx.Err(); u.err != nil {
		return nil
	}
	t.undo, t.keep = t.undo[:0], others
	u.call(t)
	if u.err == nil && u.why == nil {
		return nil
	}
	return t.takeBack()
}

// call keeps what fn panics with for its own caller.
func (u *update) call(t *tx) {
	ended := false
	defer func() {
		if u.why = recover(); u.why == nil && !ended {
			u.err = errExit
		}
	}()
	if u.err = u.fn(t); u.err == nil {
		u.err = u.ctx.Err()
	}
	ended = true
}

// errExit: fn ended its goroutine (runtime.Goexit).
var errExit = errors.New("the update did not return")

// was is what a key held before.
type was struct {
	table      string
	key, value []byte // value nil: nothing
}

// remember notes what a write is about to replace.
func (t *tx) remember(name string, b *bolt.Bucket, key []byte) {
	if !t.keep {
		return
	}
	w := was{table: name, key: bytes.Clone(key)} // the caller may use its own again
	if v := b.Get(key); v != nil {
		w.value = append(make([]byte, 0, len(v)), v...) // the page may be written over
	}
	t.undo = append(t.undo, w)
}

// takeBack undoes what was written since the last run began, the last first.
func (t *tx) takeBack() error {
	t.keep = false
	for i := len(t.undo) - 1; i >= 0; i-- {
		w := &t.undo[i]
		b, err := t.writable(w.table)
		if err == nil && w.value == nil {
			err = b.Delete(w.key)
		} else if err == nil {
			err = b.Put(w.key, w.value)
		}
		if err != nil {
			return fmt.Errorf("undo in table %s: %w", w.table, err)
		}
	}
	return nil
}
