// Package rows keeps JSON values in the tables of a store: what typed state machines have in common.
package rows

import (
	"encoding/json"
	"fmt"

	"github.com/openmigrate/openmigrate/master/store"
)

// Table is a table of JSON values. It has no state: any number of goroutines may use it, each in its own transaction.
type Table[T any] struct{ Name string }

// Get returns store.ErrNotFound for an absent key.
func (t Table[T]) Get(r store.Reader, key string) (*T, error) {
	b, err := r.Get(t.Name, []byte(key))
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("read row %q of table %s: %w", key, t.Name, err)
	}
	return v, nil
}

// Put writes a row.
func (t Table[T]) Put(w store.Writer, key string, v *T) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write row %q of table %s: %w", key, t.Name, err)
	}
	return w.Put(t.Name, []byte(key), b)
}

// Delete removes a row; an absent one is no error.
func (t Table[T]) Delete(w store.Writer, key string) error { return w.Delete(t.Name, []byte(key)) }

// Scan calls fn for each row whose key begins with prefix and is not before from, in the keys' order. store.ErrStop ends it.
func (t Table[T]) Scan(r store.Reader, prefix, from string, fn func(key string, v *T) error) error {
	return r.Scan(t.Name, []byte(prefix), []byte(from), func(k, b []byte) error {
		v := new(T)
		if err := json.Unmarshal(b, v); err != nil {
			return fmt.Errorf("read row %q of table %s: %w", k, t.Name, err)
		}
		return fn(string(k), v)
	})
}
