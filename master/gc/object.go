package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
)

// readObject reads a whole object of at most limit bytes; a longer one gives format.ErrCorrupt.
func readObject(ctx context.Context, bucket staging.Store, name string, limit int64) ([]byte, error) {
	b, err := readRange(ctx, bucket, name, 0, limit+1)
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("read %s: %w: more than %d bytes", name, format.ErrCorrupt, limit)
	}
	return b, err
}

// readRange returns fewer bytes when the object is shorter.
func readRange(ctx context.Context, bucket staging.Store, name string, off, length int64) ([]byte, error) {
	body, err := bucket.Get(ctx, name, off, length)
	if errors.Is(err, io.EOF) || errors.Is(err, staging.ErrRange) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, length))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// footerTail is how much of a pack's end is read at once: the trailer and the footer of nearly every pack.
const footerTail = 64 << 10

// packReader is a pack in the bucket as an io.ReaderAt, for format.ReadFooter: two requests for a pack as agents write them. It belongs to one
// goroutine.
type packReader struct {
	ctx    context.Context
	bucket staging.Store
	name   string
	size   int64
	tail   []byte
}

// ReadAt implements io.ReaderAt.
func (p *packReader) ReadAt(b []byte, off int64) (int, error) {
	start := max(0, p.size-footerTail)
	if off < start {
		got, err := readRange(p.ctx, p.bucket, p.name, off, int64(len(b)))
		n := copy(b, got)
		if err == nil && n < len(b) {
			err = io.EOF
		}
		return n, err
	}
	if p.tail == nil {
		tail, err := readRange(p.ctx, p.bucket, p.name, start, p.size-start)
		if err != nil {
			return 0, err
		}
		p.tail = tail
	}
	if off-start >= int64(len(p.tail)) {
		return 0, io.EOF
	}
	n := copy(b, p.tail[off-start:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// footer reads what a pack in the bucket says of itself. The project is that whose keys it names.
func footer(ctx context.Context, bucket staging.Store, keys map[string]*format.Keys, id format.PackID, size int64) (project string, entries []format.Entry, err error) {
	err = fmt.Errorf("%w: there is no project", format.ErrWrongKey)
	for project, k := range keys {
		var found format.PackID
		r := &packReader{ctx: ctx, bucket: bucket, name: id.Name(), size: size}
		if found, entries, err = format.ReadFooter(k, r, size); errors.Is(err, format.ErrWrongKey) {
			continue
		}
		if err == nil && found != id {
			err = fmt.Errorf("%w: it says that it is pack %s", format.ErrCorrupt, found)
		}
		return project, entries, err
	}
	return "", nil, err
}

// isDamage reports whether an error is about what an object holds, and not about getting it.
func isDamage(err error) bool {
	for _, e := range []error{format.ErrCorrupt, format.ErrVersion, format.ErrWrongKey, format.ErrSignature, format.ErrIDMismatch, staging.ErrNotFound} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// footerReaders is how many packs are looked at at once.
const footerReaders = 16

// inParallel calls fn for 0 to n-1, some at once, and returns the first error when all have returned. After an error no more are begun.
func inParallel(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, footerReaders)
	for i := 0; i < n && ctx.Err() == nil; i++ {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := fn(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// projectKeys returns the keys of all projects.
func (g *Collector) projectKeys(ctx context.Context) (map[string]*format.Keys, error) {
	projects, err := g.cat.Projects(ctx)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]*format.Keys, len(projects))
	for i := range projects {
		if keys[projects[i].ID], err = g.keys.Keys(ctx, projects[i].ID); err != nil {
			return nil, err
		}
	}
	return keys, nil
}
