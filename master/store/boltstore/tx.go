package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/openmigrate/openmigrate/master/store"
)

// scanCheck is after how many keys a Scan looks whether its context has ended.
const scanCheck = 1024

// tx is one transaction. Like bbolt's own it belongs to one goroutine.
type tx struct {
	ctx    context.Context
	tx     *bolt.Tx
	tables map[string]*table // opened so far: opening one costs as much as a Get
	keep   bool              // what is written over is noted in undo
	undo   []was
}

type table struct {
	bucket *bolt.Bucket
	cursor *bolt.Cursor // for scans, but for those inside of scans
	scans  int          // under way
}

func newTx(ctx context.Context, t *bolt.Tx) *tx {
	return &tx{ctx: ctx, tx: t, tables: make(map[string]*table)}
}

// table is nil for one that was never written.
func (t *tx) table(name string) *table {
	if o := t.tables[name]; o != nil {
		return o
	}
	b := t.tx.Bucket([]byte(name))
	if b == nil {
		return nil
	}
	return t.opened(name, b)
}

func (t *tx) opened(name string, b *bolt.Bucket) *table {
	o := &table{bucket: b, cursor: b.Cursor()}
	t.tables[name] = o
	return o
}

func (t *tx) Get(table string, key []byte) ([]byte, error) {
	o := t.table(table)
	if o == nil {
		return nil, store.ErrNotFound
	}
	v := o.bucket.Get(key)
	if v == nil {
		return nil, store.ErrNotFound
	}
	return v, nil
}

func (t *tx) Scan(table string, prefix, from []byte, fn func(key, value []byte) error) error {
	o := t.table(table)
	if o == nil {
		return nil
	}
	start := prefix
	if bytes.Compare(from, prefix) > 0 {
		start = from
	}
	c := o.cursor
	if o.scans > 0 {
		c = o.bucket.Cursor()
	}
	o.scans++
	defer func() { o.scans-- }()
	n := 0
	for k, v := c.Seek(start); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if n++; n%scanCheck == 0 && t.ctx.Err() != nil {
			return t.ctx.Err()
		}
		if err := fn(k, v); err != nil {
			if errors.Is(err, store.ErrStop) {
				return nil
			}
			return err
		}
	}
	return nil
}

// writable returns the table. Writing one while it is scanned is refused: bbolt's cursors would skip or repeat keys
// without a word.
func (t *tx) writable(name string) (*bolt.Bucket, error) {
	o := t.table(name)
	if o == nil {
		b, err := t.tx.CreateBucket([]byte(name))
		if err != nil {
			return nil, fmt.Errorf("create table %q: %w", name, err)
		}
		o = t.opened(name, b)
	}
	if o.scans > 0 {
		return nil, fmt.Errorf("write table %s: it is being scanned", name)
	}
	return o.bucket, nil
}

func (t *tx) Put(table string, key, value []byte) error {
	b, err := t.writable(table)
	if err != nil {
		return err
	}
	t.remember(table, b, key)
	if err := b.Put(key, value); err != nil {
		return fmt.Errorf("put into table %s: %w", table, err)
	}
	return nil
}

func (t *tx) Delete(table string, key []byte) error {
	if t.table(table) == nil {
		return nil
	}
	b, err := t.writable(table)
	if err != nil {
		return err
	}
	t.remember(table, b, key)
	if err := b.Delete(key); err != nil {
		return fmt.Errorf("delete from table %s: %w", table, err)
	}
	return nil
}
