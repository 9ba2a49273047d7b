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
	ctx     context.Context
	tx      *bolt.Tx
	buckets map[string]*bolt.Bucket // opened so far: opening one costs as much as a Get
	scans   map[string]int          // scans under way by table
}

func newTx(ctx context.Context, t *bolt.Tx) *tx {
	return &tx{ctx: ctx, tx: t, buckets: make(map[string]*bolt.Bucket), scans: make(map[string]int)}
}

// bucket is nil for a table that was never written.
func (t *tx) bucket(table string) *bolt.Bucket {
	if b := t.buckets[table]; b != nil {
		return b
	}
	b := t.tx.Bucket([]byte(table))
	if b != nil {
		t.buckets[table] = b
	}
	return b
}

func (t *tx) Get(table string, key []byte) ([]byte, error) {
	b := t.bucket(table)
	if b == nil {
		return nil, store.ErrNotFound
	}
	v := b.Get(key)
	if v == nil {
		return nil, store.ErrNotFound
	}
	return v, nil
}

func (t *tx) Scan(table string, prefix, from []byte, fn func(key, value []byte) error) error {
	b := t.bucket(table)
	if b == nil {
		return nil
	}
	start := prefix
	if bytes.Compare(from, prefix) > 0 {
		start = from
	}
	t.scans[table]++
	defer func() { t.scans[table]-- }()
	c := b.Cursor()
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

// writable returns the table's bucket. Writing a table while it is scanned is refused: bbolt's cursors
// would skip or repeat keys without a word.
func (t *tx) writable(table string) (*bolt.Bucket, error) {
	if t.scans[table] > 0 {
		return nil, fmt.Errorf("write table %s: it is being scanned", table)
	}
	if b := t.bucket(table); b != nil {
		return b, nil
	}
	b, err := t.tx.CreateBucket([]byte(table))
	if err != nil {
		return nil, fmt.Errorf("create table %q: %w", table, err)
	}
	t.buckets[table] = b
	return b, nil
}

func (t *tx) Put(table string, key, value []byte) error {
	b, err := t.writable(table)
	if err != nil {
		return err
	}
	if err := b.Put(key, value); err != nil {
		return fmt.Errorf("put into table %s: %w", table, err)
	}
	return nil
}

func (t *tx) Delete(table string, key []byte) error {
	if t.bucket(table) == nil {
		return nil
	}
	b, err := t.writable(table)
	if err != nil {
		return err
	}
	if err := b.Delete(key); err != nil {
		return fmt.Errorf("delete from table %s: %w", table, err)
	}
	return nil
}
