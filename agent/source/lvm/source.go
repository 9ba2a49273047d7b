package lvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/openmigrate/openmigrate/agent/source"
)

// Source is the snapshot as a source that goes by the volume's own id and name.
func (s *Snapshot) Source(origin source.Source) (source.Source, error) {
	if got, want := s.l.dmUUID(s.made.Device), s.made.dmUUID(); got != want {
		return nil, fmt.Errorf("open snapshot of %s: %s is another device", origin.Name(), s.made.Device)
	}
	device, err := source.New(s.made.Device, &source.Options{ID: origin.ID()})
	if err != nil {
		return nil, fmt.Errorf("open snapshot of %s: %w", origin.Name(), err)
	}
	return &snapshotSource{Source: device, name: origin.Name(), snapshot: s}, nil
}

type snapshotSource struct {
	source.Source // the snapshot's device, under the volume's id
	name          string
	snapshot      *Snapshot
}

func (s *snapshotSource) Name() string { return s.name }

func (s *snapshotSource) Open(ctx context.Context) (source.Reader, error) {
	r, err := s.Source.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &reader{Reader: r, src: s}, nil
}

// reader refuses to read on once a check found the snapshot lost, and tells a fault of the snapshot from one of a disk.
type reader struct {
	source.Reader
	src *snapshotSource
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.src.snapshot.failed(); err != nil {
		return 0, &source.ReadError{Source: r.src.name, Offset: off, Length: len(p), Err: err}
	}
	n, err := r.Reader.ReadAt(p, off)
	return n, r.explain(err)
}

func (r *reader) NextData(off int64) (start, end int64, err error) {
	if err := r.src.snapshot.failed(); err != nil {
		return 0, 0, &source.ReadError{Source: r.src.name, Offset: off, Err: err}
	}
	start, end, err = r.Reader.NextData(off)
	return start, end, r.explain(err)
}

// explain gives a failed read its reason: a lost snapshot shows as an I/O error.
func (r *reader) explain(err error) error {
	e := new(source.ReadError)
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) || !errors.As(err, &e) {
		return err
	}
	cause := e.Err
	if lost := r.src.snapshot.Check(context.Background()); errors.Is(lost, source.ErrLost) { // its programs have a limit of their own
		cause = lost
	}
	return &source.ReadError{Source: r.src.name, Offset: e.Offset, Length: e.Length, Err: cause}
}
