package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"sync"

	"github.com/openmigrate/openmigrate/hydrator/files"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/hydrator/view"
	"github.com/openmigrate/openmigrate/wire"
)

// Limits of what one disk can make us hold or send.
const (
	MaxFolder = 100_000 // entries of a folder
	MaxFile   = 1 << 44 // bytes of a file: what ext4 can have. One that is all hole may claim more
)

// List looks at what is in a folder, or at the one file that the path names. pick is given all names, in no order, and returns the places of those that are
// wanted; only these are looked at, so a page of a large folder costs no more than another. Symbolic links on the way are followed inside the file system.
//
// Errors are wire.Problem documents, or those of staging.
func (b *Browser) List(ctx context.Context, at wire.FilePlace, pick func(names []string) ([]int, error)) ([]wire.FileInfo, error) {
	q, err := b.ask(ctx, at)
	if err != nil {
		return nil, err
	}
	defer q.end()
	out, err := q.list(pick)
	if err != nil {
		return nil, q.problem(err)
	}
	return out, nil
}

// Open returns a regular file's content and its size. Close content. What is read of it ends with ctx. Errors are those of List.
func (b *Browser) Open(ctx context.Context, at wire.FilePlace) (content io.ReadCloser, size int64, err error) {
	q, err := b.ask(ctx, at)
	if err != nil {
		return nil, 0, err
	}
	c, err := q.content()
	if err != nil {
		err = q.problem(err)
		q.end()
		return nil, 0, err
	}
	q.unhurried(ctx)
	return &file{SectionReader: io.NewSectionReader(c, 0, c.Size()), q: q}, c.Size(), nil
}

// file is a file that is being read.
type file struct {
	*io.SectionReader
	q *question
}

// Close implements io.Closer.
func (f *file) Close() error { f.q.end(); return nil }

// question is one answer on its way: a token, a view, and the file system that is meant.
type question struct {
	at    wire.FilePlace
	disk  *disk
	fs    files.FS
	given context.Context // the asker's
	life  context.Context // the view's
	end   func()
}

// errSlow: a folder or path took too long.
var errSlow = errors.New("it takes too long to read")

func (b *Browser) ask(ctx context.Context, at wire.FilePlace) (*question, error) {
	select {
	case b.tokens <- struct{}{}:
	default:
		return nil, busy()
	}
	k, err := b.borrow(ctx, at.Restpoint)
	if err != nil {
		<-b.tokens
		return nil, err
	}
	hurried, cancel := context.WithTimeoutCause(ctx, b.o.Patience, errSlow)
	q := &question{at: at, given: ctx, life: k.life, end: sync.OnceFunc(func() {
		cancel()
		b.giveBack(k)
		<-b.tokens
	})}
	if err := q.open(hurried, k.view); err != nil {
		err = q.problem(err)
		q.end()
		return nil, err
	}
	return q, nil
}

func (q *question) open(ctx context.Context, v *view.View) error {
	disks := v.Disks()
	if q.at.Disk < 0 || q.at.Disk >= len(disks) {
		return fmt.Errorf("%w: the restpoint has no disk %d", fs.ErrNotExist, q.at.Disk)
	}
	q.disk = &disk{Disk: disks[q.at.Disk], ctx: ctx, life: q.life}
	p, err := files.Partition(q.disk, q.disk.Size(), q.at.Partition)
	if err != nil {
		return err
	}
	q.fs, err = files.Open(p, p.Size())
	return err
}

// unhurried has what is read from now on end with ctx alone.
func (q *question) unhurried(ctx context.Context) { q.disk.ctx = ctx }

// disk reads within two contexts: the question's, and that of the view.
type disk struct {
	*view.Disk
	ctx, life context.Context
}

// ReadAt implements io.ReaderAt.
func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	for _, c := range []context.Context{d.life, d.ctx} {
		if c.Err() != nil {
			return 0, context.Cause(c)
		}
	}
	return d.ReadContext(d.ctx, p, off)
}

func (q *question) list(pick func([]string) ([]int, error)) ([]wire.FileInfo, error) {
	info, err := files.Lookup(q.fs, q.at.Path, true)
	if err != nil {
		return nil, err
	}
	names, inodes := []string{path.Base(q.at.Path)}, []uint64{info.Inode}
	if info.Mode.IsDir() {
		names, inodes = nil, nil
		err := q.fs.ReadDir(info.Inode, func(name string, inode uint64) error {
			if len(names) >= MaxFolder {
				return wire.NewProblem(http.StatusUnprocessableEntity, wire.CodeTooLarge, "the folder has more than %d entries", MaxFolder).
					WithNext("list it with: openmigrate restpoints files")
			}
			names, inodes = append(names, name), append(inodes, inode)
			return q.disk.ctx.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	wanted, err := pick(names)
	if err != nil {
		return nil, err
	}
	out := make([]wire.FileInfo, 0, len(wanted))
	for _, i := range wanted {
		f, err := q.describe(names[i], inodes[i])
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// describe says what a file system says of an entry. One that is damaged is shown as such: it must not hide the rest of its folder.
func (q *question) describe(name string, inode uint64) (wire.FileInfo, error) {
	f := wire.FileInfo{Name: name, Type: wire.FileOther, Mode: "??????????"}
	info, err := q.fs.Stat(inode)
	if err == nil {
		f.Mode, f.Size, f.Modified, f.UID, f.GID = info.Mode.String(), max(info.Size, 0), info.ModTime.UTC(), info.UID, info.GID
		switch info.Mode.Type() {
		case 0:
			f.Type = wire.FileRegular
		case fs.ModeDir:
			f.Type = wire.FileFolder
		case fs.ModeSymlink:
			f.Type = wire.FileLink
			f.Link, err = q.fs.ReadLink(inode)
		}
	}
	if err != nil && !errors.Is(err, files.ErrCorrupt) && !errors.Is(err, files.ErrUnsupported) {
		return f, fmt.Errorf("look at an entry: %w", err)
	}
	return f, nil
}

func (q *question) content() (*files.Content, error) {
	info, err := files.Lookup(q.fs, q.at.Path, true)
	if err != nil {
		return nil, err
	}
	if !info.Mode.IsRegular() {
		return nil, wire.NewProblem(http.StatusConflict, wire.CodeConflict, "it is no regular file, but %s", info.Mode).WithNext("list the folder")
	}
	c, err := q.fs.Open(info.Inode)
	if err != nil {
		return nil, err
	}
	if c.Size() < 0 || c.Size() > MaxFile {
		return nil, wire.NewProblem(http.StatusUnprocessableEntity, wire.CodeTooLarge, "the file claims to have %d bytes", c.Size()).
			WithNext("mount the restpoint: openmigrate restpoints mount")
	}
	return c, nil
}

// problem says what the asker may hear, and what to do. What is a matter of staging stays as it is.
func (q *question) problem(err error) error {
	var p *wire.Problem
	fail := func(status int, code, next string) error {
		return wire.NewProblem(status, code, "%.600s", err.Error()).WithNext(next)
	}
	mount := "mount the restpoint and let the kernel read it: openmigrate restpoints mount"
	switch {
	case errors.As(err, &p):
		return err
	case q.given.Err() != nil:
		return context.Cause(q.given)
	case errors.Is(err, errSlow), errors.Is(err, context.DeadlineExceeded):
		return wire.NewProblem(http.StatusServiceUnavailable, wire.CodeUnavailable, "disk %d: %v", q.at.Disk, errSlow).WithNext("try again: what was read is remembered for a while; or " + mount)
	case errors.Is(err, fs.ErrNotExist):
		return fail(http.StatusNotFound, wire.CodeNotFound, "list the folder above it")
	case errors.Is(err, fs.ErrInvalid):
		return fail(http.StatusBadRequest, wire.CodeBadRequest, "")
	case errors.Is(err, files.ErrUnsupported):
		return fail(http.StatusNotImplemented, wire.CodeUnsupported, mount)
	case errors.Is(err, files.ErrCorrupt):
		return fail(http.StatusConflict, wire.CodeConflict, "try another restpoint, or "+mount)
	case q.life.Err() != nil, errors.Is(err, view.ErrClosed):
		return fail(http.StatusServiceUnavailable, wire.CodeUnavailable, "try again")
	case reader.IsDamage(err):
		return fail(http.StatusBadGateway, wire.CodeStaging, "openmigrate staging check finds what is damaged; another restpoint may have the file whole")
	}
	return err
}
