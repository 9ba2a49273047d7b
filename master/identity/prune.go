package identity

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
)

const (
	// expiredKept is how long a token can be seen after its end: who used it, and that it is its age that makes it worthless.
	expiredKept = 7 * 24 * time.Hour
	// maxPruned bounds the rows that one transaction removes. A table shrinks, because each new token may remove so many.
	maxPruned = 256
)

// prune removes tokens of a table that ended long ago. It runs in the transaction that adds one, so that tables are no larger
// than what is made in the longest time that a token is good for.
func prune(tx store.Writer, table string, now time.Time) error {
	var old [][]byte
	err := tx.Scan(table, nil, nil, func(k, b []byte) error {
		var t struct {
			Expires time.Time `json:"expires"`
		}
		if err := json.Unmarshal(b, &t); err != nil {
			return fmt.Errorf("read %s %s: %w", table, k, err)
		}
		if t.Expires.IsZero() || now.Before(t.Expires.Add(expiredKept)) {
			return nil
		}
		if old = append(old, append([]byte(nil), k...)); len(old) == maxPruned {
			return store.ErrStop
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range old {
		if err := tx.Delete(table, k); err != nil {
			return err
		}
	}
	return nil
}
