// Package gc looks after the bucket on the master's behalf: it deletes what nothing refers to, compares the catalog with the bucket,
// makes the catalog anew from the bucket, and counts what is there.
//
// The invariant: what a listed restpoint, a live session or a job needs is never deleted. DESIGN.md beside this file says why
// that holds while agents work, and whatever dies at whatever step. No clock decides what is deleted.
//
// Collect and Rebuild exclude each other and themselves; Check and Stats may run at any time. Sessions may go on under all of them. A Collector
// may be used by any number of goroutines.
package gc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/wire"
)

// ErrBusy: a collection or a rebuild is running.
var ErrBusy = errors.New("staging is being collected or rebuilt already")

// Collector works on one bucket and the catalog of it.
type Collector struct {
	cat    *catalog.Catalog
	bucket staging.Store
	keys   catalog.KeyRing
	clock  clock.Clock

	running sync.Mutex // held by Collect and Rebuild
}

// New returns a Collector. bucket is the one that cat works on, with the right to list and delete.
func New(cat *catalog.Catalog, bucket staging.Store, keys catalog.KeyRing, clk clock.Clock) *Collector {
	return &Collector{cat: cat, bucket: bucket, keys: keys, clock: clk}
}

// Progress says how far long work is. It may be nil; it is called from one goroutine.
type Progress func(phase string, done, total int64)

func (p Progress) tell(phase string, done, total int64) {
	if p != nil {
		p(phase, done, total)
	}
}

// Problem is something that is not as it should be, and what to do about it.
type Problem struct {
	Object  string `json:"object"` // name in the bucket, or id
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
}

// Problems is a bounded list of them. Problems past the limit are counted only.
type Problems struct {
	List  []Problem `json:"problems"`
	Count int64     `json:"problem_count"`
}

// addError is add for an error, which may say itself what to do.
func (p *Problems) addError(object, next, what string, err error) {
	var known *wire.Problem
	if errors.As(err, &known) && known.Next != "" {
		next = known.Next
	}
	p.add(object, next, "%s: %v", what, err)
}

// noProblems is an empty list, which JSON shows as one.
func noProblems() Problems { return Problems{List: []Problem{}} }

const (
	maxProblems = 200
	maxMessage  = 500 // bytes
)

func (p *Problems) add(object, next, format string, args ...any) {
	p.Count++
	if len(p.List) >= maxProblems {
		return
	}
	m := fmt.Sprintf(format, args...)
	p.List = append(p.List, Problem{Object: object, Message: m[:min(len(m), maxMessage)], Next: next})
}

// eachPack calls fn for all packs in ascending order of Seq, over several transactions.
func (g *Collector) eachPack(ctx context.Context, fn func(*catalog.Pack) error) error {
	const page = 2048
	var after uint64
	for {
		batch := make([]catalog.Pack, 0, page)
		last, err := g.cat.Packs(ctx, after, page, func(p catalog.Pack) error {
			batch = append(batch, p)
			return nil
		})
		if err != nil || last == 0 {
			return err
		}
		for i := range batch {
			if err := fn(&batch[i]); err != nil {
				return err
			}
		}
		after = last
	}
}
