package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

const (
	nodeFetches = 8         // requests to the bucket at once
	nodeGap     = 64 << 10  // bytes that are read in vain rather than asking twice
	nodeRun     = 512 << 10 // bytes of one request at most
)

// missingError: an id that is not in the index, where this reader may look.
type missingError struct{ id chunker.ID }

func (e *missingError) Error() string { return fmt.Sprintf("%s is not in staging", e.id) }

// damagedError: the index says where an id is, but what is there is not it.
type damagedError struct {
	id    chunker.ID
	pack  format.PackID
	cause error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("%s in pack %s is damaged: %v", e.id, e.pack, e.cause)
}
func (e *damagedError) Unwrap() error { return e.cause }

// nodeReader reads tree nodes from the bucket and verifies them. It belongs to one goroutine.
type nodeReader struct {
	c       *Catalog
	project string
	machine string
	opener  *format.Opener
}

// NodeReader reads the nodes of a machine's trees, verified. Each reader belongs to one goroutine.
func (c *Catalog) NodeReader(ctx context.Context, project, machine string) (format.NodeReader, error) {
	keys, err := c.keys.Keys(ctx, project)
	if err != nil {
		return nil, err
	}
	opener, err := format.NewOpener(keys)
	if err != nil {
		return nil, err
	}
	return &nodeReader{c: c, project: project, machine: machine, opener: opener}, nil
}

// run is neighbouring entries of one pack that are fetched in one request.
type run struct {
	pack   format.PackID
	off    int64
	length int64
	want   []int // places in the list of ids
	data   []byte
}

// Nodes implements format.NodeReader.
func (n *nodeReader) Nodes(ctx context.Context, ids []chunker.ID) ([][]byte, error) {
	locs := make([]wire.Location, 0, len(ids))
	for part := range slices.Chunk(ids, wire.MaxOffer) {
		l, err := n.c.ResolveFor(ctx, n.project, n.machine, part)
		if err != nil {
			return nil, err
		}
		locs = append(locs, l...)
	}
	for i := range locs {
		if !locs[i].Found || locs[i].Entry.Kind != format.KindNode {
			return nil, &missingError{id: ids[i]}
		}
	}
	runs := plan(locs)
	if err := n.fetch(ctx, runs, locs); err != nil {
		return nil, err
	}
	nodes := make([][]byte, len(ids))
	for _, r := range runs {
		for _, i := range r.want {
			e := locs[i].Entry
			start := int64(e.Offset) - r.off
			if start+int64(e.Stored) > int64(len(r.data)) {
				return nil, &damagedError{id: ids[i], pack: r.pack, cause: errors.New("the object is cut short")}
			}
			b, err := n.opener.OpenVerified(r.pack, e, r.data[start:start+int64(e.Stored)], nil)
			if err != nil {
				return nil, &damagedError{id: ids[i], pack: r.pack, cause: err}
			}
			nodes[i] = b
		}
	}
	return nodes, nil
}

// plan joins entries that lie close together into runs.
func plan(locs []wire.Location) []*run {
	order := make([]int, len(locs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &locs[a], &locs[b]
		if v := slices.Compare(x.Pack[:], y.Pack[:]); v != 0 {
			return v
		}
		return int(int64(x.Entry.Offset) - int64(y.Entry.Offset))
	})
	var runs []*run
	for _, i := range order {
		l := &locs[i]
		off, end := int64(l.Entry.Offset), int64(l.Entry.Offset)+int64(l.Entry.Stored)
		if len(runs) > 0 {
			last := runs[len(runs)-1]
			if last.pack == l.Pack && off-(last.off+last.length) <= nodeGap && end-last.off <= nodeRun {
				last.length = max(last.length, end-last.off)
				last.want = append(last.want, i)
				continue
			}
		}
		runs = append(runs, &run{pack: l.Pack, off: off, length: end - off, want: []int{i}})
	}
	return runs
}

// fetch reads all runs, several at once.
func (n *nodeReader) fetch(ctx context.Context, runs []*run, locs []wire.Location) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error // guarded by mu
	)
	slots := make(chan struct{}, nodeFetches)
	for _, r := range runs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var err error
			if r.data, err = readRange(ctx, n.c.bucket, r.pack.Name(), r.off, r.length); err == nil {
				return
			}
			if errors.Is(err, staging.ErrNotFound) {
				err = &damagedError{id: locs[r.want[0]].Entry.ID, pack: r.pack, cause: err}
			}
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = err
				cancel()
			}
		})
	}
	wg.Wait()
	return first
}

// readRange returns fewer bytes when the object is shorter.
func readRange(ctx context.Context, bucket staging.Store, name string, off, length int64) ([]byte, error) {
	body, err := bucket.Get(ctx, name, off, length)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer body.Close()
	b := make([]byte, length)
	n, err := io.ReadFull(body, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b[:n], nil
}
