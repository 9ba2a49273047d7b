// Package store is what the master asks of its database: ordered tables of bytes with serialisable transactions. Typed
// state machines live above it (master/catalog), so that an engine is small: boltstore embeds bbolt, storetest is the
// conformance suite that every engine passes.
//
// What an engine guarantees. Update runs alone or as if alone; when it returns nil everything that fn wrote is durable, else nothing is.
// View sees one moment. Keys are ordered as bytes. Values and keys given to callbacks are valid only until
// the transaction ends. fn may run again when the engine must retry, so it has no effect but its writes.
package store

import (
	"context"
	"errors"
)

var (
	// ErrNotFound: there is no such key.
	ErrNotFound = errors.New("not found")
	// ErrFull: the database cannot grow (disk full).
	ErrFull = errors.New("database disk is full")
	// ErrStop, returned by a Scan callback, ends the scan without an error.
	ErrStop = errors.New("stop scanning")
)

// Store is a database. Any number of goroutines may call it at once.
type Store interface {
	View(ctx context.Context, fn func(Reader) error) error
	Update(ctx context.Context, fn func(Writer) error) error
	// Size is the number of bytes that the database takes on disk.
	Size() (int64, error)
	Close() error
}

// Reader reads inside a transaction. Tables need not be created: an unknown one is empty.
type Reader interface {
	// Get returns ErrNotFound for an absent key.
	Get(table string, key []byte) ([]byte, error)
	// Scan calls fn for each key that starts with prefix and is >= from, in ascending order.
	// An empty prefix is the whole table; a nil from is its beginning.
	Scan(table string, prefix, from []byte, fn func(key, value []byte) error) error
}

// Writer also writes. Put copies neither key nor value before the transaction ends: do not change them.
// Many Puts to one table are fastest in ascending key order.
type Writer interface {
	Reader
	Put(table string, key, value []byte) error
	// Delete of an absent key is not an error.
	Delete(table string, key []byte) error
}
