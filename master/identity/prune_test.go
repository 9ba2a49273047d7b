package identity

import (
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/opaque"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

func (w *world) rows(table string) int {
	w.t.Helper()
	n := 0
	err := w.db.View(w.t.Context(), func(tx store.Reader) error {
		return tx.Scan(table, nil, nil, func(_, _ []byte) error { n++; return nil })
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestExpiredTokensArePruned(t *testing.T) {
	w := newWorld(t)
	old := w.token(ca.KindAgent, 1) // a day

	w.clock.Advance(24*time.Hour + expiredKept - time.Second)
	w.token(ca.KindAgent, 1)
	if e := w.rows(tableEnrol); e != 2 {
		t.Errorf("%d rows while the old token is worth seeing, want 2", e)
	}
	_, err := w.r.Enroll(t.Context(), w.request(old, ca.KindAgent))
	wantCode(t, err, wire.CodeTokenExpired)

	w.clock.Advance(time.Second)
	w.token(ca.KindAgent, 1)
	if e := w.rows(tableEnrol); e != 2 {
		t.Errorf("%d rows after the old one went, want 2", e)
	}
	_, err = w.r.Enroll(t.Context(), w.request(old, ca.KindAgent))
	wantCode(t, err, wire.CodeUnauthorized)
}

func TestPruningIsBounded(t *testing.T) {
	w := newWorld(t)
	const made = maxPruned + 10
	err := w.db.Update(t.Context(), func(tx store.Writer) error {
		for range made {
			id := opaque.Hex(8)
			if err := put(tx, tableEnrol, id, &EnrolToken{ID: id, Expires: w.clock.Now()}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(expiredKept)
	for i, want := range []int{made - maxPruned + 1, 2, 3} {
		if w.token(ca.KindNode, 1); w.rows(tableEnrol) != want {
			t.Errorf("%d rows after %d new tokens, want %d", w.rows(tableEnrol), i+1, want)
		}
	}
}
