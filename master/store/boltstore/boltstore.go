// Package boltstore keeps the master's tables in one bbolt file: the engine of a master that runs alone. Each table is a
// bucket of that name, made by the first Put.
//
// One process at a time may open a file; a second is told so. Within it any number of goroutines may read while one
// writes. A reader that lingers keeps the pages that it sees from being used again, so the file grows: long work is
// split over several transactions.
//
// The file's free list is not written (bbolt finds the free pages again when it opens the file), because at millions of
// rows writing it with every commit costs more than everything else in a small transaction.
package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/openmigrate/openmigrate/master/store"
)

// Options change how a file is opened. The zero value, and nil, are ready for use.
type Options struct {
	// LockWait is how long Open waits for another process to let go of the file; 0 means 2 seconds.
	LockWait time.Duration
	// MaxSize in bytes is as far as the file may grow, to the next multiple of what bbolt grows by; 0: as far as the disk has room.
	MaxSize int64
}

// Store is a bbolt file. It implements store.Store.
type Store struct {
	db   *bolt.DB
	path string
	// writer has room for one token: whoever put it there may write, for all in line (group.go). bbolt has a mutex for the same, which cannot be
	// waited for with a context.
	writer chan struct{}

	mu   sync.Mutex
	line []*update // guarded by mu
}

var _ store.Store = (*Store)(nil)

// Open opens the file at path, and makes it, readable by its owner alone, if there is none. opts may be nil.
func Open(path string, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.LockWait <= 0 {
		o.LockWait = 2 * time.Second
	}
	_, statErr := os.Stat(path)
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:        o.LockWait,
		NoFreelistSync: true,
		FreelistType:   bolt.FreelistMapType,
		MaxSize:        int(o.MaxSize),
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("open database: another master uses %s", path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("open database %s: it is damaged or no database (move it away and rebuild the index from staging): %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("open database %s: %w", path, asFull(err))
	}
	if errors.Is(statErr, os.ErrNotExist) {
		// The file's own fsync does not make its name durable.
		if err := syncDir(filepath.Dir(path)); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return &Store{db: db, path: path, writer: make(chan struct{}, 1)}, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// asFull makes the errors by which a file can not grow into store.ErrFull, and keeps the cause. bbolt wraps
// only the text of what the system said when it resizes its file, so the text is looked at, too.
func asFull(err error) error {
	if err == nil {
		return nil
	}
	full := errors.Is(err, berrors.ErrMaxSizeReached)
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		full = full || errors.Is(err, errno) || strings.HasSuffix(err.Error(), ": "+errno.Error())
	}
	if full {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

// View runs fn on the state that the last finished Update left.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.View(func(tx *bolt.Tx) error {
		return fn(newTx(ctx, tx))
	})
}

// Size is the length of the file in bytes.
func (s *Store) Size() (int64, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return 0, fmt.Errorf("size of database: %w", err)
	}
	return info.Size(), nil
}

// Close waits for running transactions and closes the file.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}
