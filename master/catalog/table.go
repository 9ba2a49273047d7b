package catalog

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/master/store"
)

// tablesVersion is the version of all tables together. A store without one is new. Since 2 there are patches; rows of 1 are good as
// they are.
const tablesVersion = 2

// Tables whose values are not JSON, or that are indexes without a type of their own. DESIGN.md lists all.
const (
	tableMeta           = "meta"               // name → what it says
	tableMachineNames   = "machine_names"      // project 0 name → machine
	tableLive           = "live_sessions"      // machine → its session that is open or committing
	tableDirty          = "dirty_sessions"     // session that ended and still has pins → nothing
	tablePins           = "pins"               // session 0 pack seq → nothing
	tablePacks          = "packs"              // pack seq → packRow (see packrow.go)
	tablePackIDs        = "pack_ids"           // pack id → pack seq
	tablePackContents   = "pack_contents"      // pack seq → ids of its entries, in order
	tableIndex          = "index"              // project number, id, pack seq → indexRow (see index.go)
	tablePatches        = "patches"            // project number, base, id, pack seq → nothing (see patch.go)
	tableLost           = "lost"               // project number, id → nothing
	tableMachineRest    = "machine_restpoints" // machine 0 sequence → restpoint
	tableObjects        = "restpoint_objects"  // restpoint → the countersigned object
	tableQueue          = "job_queue"          // job's number → job
	tableProofs         = "proofs"             // project/machine → its newest prove job that nobody has begun
	tableMachineSession = "machine_sessions"   // machine 0 session number → session
)

// Keys of tableMeta.
var (
	metaVersion    = []byte("version")
	metaStaging    = []byte("staging")         // hash of what assignments say of staging
	metaPackSeq    = []byte("pack-seq")        // last one given
	metaJobSeq     = []byte("job-seq")         //
	metaSessionSeq = []byte("session-seq")     //
	metaDamage     = []byte("damage")          // counts quarantines
	metaEpoch      = []byte("collector-epoch") // see collect.go
)

// table is a table of JSON values.
type table[T any] struct{ name string }

// get returns store.ErrNotFound for an absent key.
func (t table[T]) get(r store.Reader, key []byte) (T, error) {
	var v T
	b, err := r.Get(t.name, key)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("read row %q of table %s: %w", key, t.name, err)
	}
	return v, nil
}

func (t table[T]) put(w store.Writer, key []byte, v T) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write row %q of table %s: %w", key, t.name, err)
	}
	return w.Put(t.name, key, b)
}

func (t table[T]) delete(w store.Writer, key []byte) error { return w.Delete(t.name, key) }

func (t table[T]) scan(r store.Reader, prefix, from []byte, fn func(key []byte, v T) error) error {
	return r.Scan(t.name, prefix, from, func(k, b []byte) error {
		var v T
		if err := json.Unmarshal(b, &v); err != nil {
			return fmt.Errorf("read row %q of table %s: %w", k, t.name, err)
		}
		return fn(k, v)
	})
}

// getUint reads a number of 8 bytes, 0 when there is none.
func getUint(r store.Reader, table string, key []byte) (uint64, error) {
	b, err := r.Get(table, key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("read row %q of table %s: %d bytes, want 8", key, table, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func putUint(w store.Writer, table string, key []byte, v uint64) error {
	return w.Put(table, key, u64(v))
}

// nextUint counts up: the first number is 1.
func nextUint(w store.Writer, key []byte) (uint64, error) {
	n, err := getUint(w, tableMeta, key)
	if err != nil {
		return 0, err
	}
	return n + 1, putUint(w, tableMeta, key, n+1)
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// under is the key of something that belongs to owner: the owner's id, a zero byte, and the rest. Ids hold no zero bytes.
func under(owner string, rest []byte) []byte {
	k := make([]byte, 0, len(owner)+1+len(rest))
	k = append(k, owner...)
	k = append(k, 0)
	return append(k, rest...)
}

// exists reports whether the table has the key.
func exists(r store.Reader, table string, key []byte) (bool, error) {
	_, err := r.Get(table, key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// newID makes 128 random bits, in hexadecimal.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}
