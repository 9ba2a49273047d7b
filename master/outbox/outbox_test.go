package outbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
)

// wait returns what comes after a sequence, once something does.
func wait(t *testing.T, o *Outbox, after uint64, project string) ([]Event, uint64) {
	t.Helper()
	for {
		news := o.News()
		if list, last, gap := o.After(after, project); len(list) > 0 || gap {
			if gap {
				t.Fatal("a gap")
			}
			return list, last
		}
		select {
		case <-news:
		case <-time.After(10 * time.Second):
			t.Fatal("nothing comes")
		}
	}
}

// TestOutbox: events of one thing are one, projects hear only theirs, many of a kind are one without an id, and who asks again gets what came since.
func TestOutbox(t *testing.T) {
	o := New(100)
	defer o.Close()
	for range 5 {
		o.Publish(Event{Kind: "machine", ID: "a", Project: "p"}, Event{Kind: "machine", ID: "b", Project: "q"})
	}
	o.Publish(Event{Kind: "launch", ID: "l", Project: "p", Machine: "a"}, Event{Kind: "launch", ID: "l", Project: "p"})
	list, last := wait(t, o, 100, "p")
	if len(list) != 2 || list[0].Kind != "launch" || list[0].Machine != "a" || list[1].ID != "a" || last != 103 || list[0].Sequence <= 100 {
		t.Errorf("%+v, last %d", list, last)
	}
	for i := range maxOfKind + 1 {
		o.Publish(Event{Kind: "machine", ID: fmt.Sprint(i), Project: "p"})
	}
	if list, _ = wait(t, o, last, "p"); len(list) != 1 || list[0].ID != "" || list[0].Kind != "machine" {
		t.Errorf("many are %d: %+v", len(list), list[0])
	}
}

// TestGaps: who was away for too long, or comes from a time that this outbox does not know, is told so.
func TestGaps(t *testing.T) {
	o := New(1000)
	defer o.Close()
	for i := range ringSize + 10 {
		o.mu.Lock()
		o.pending[key{"job", fmt.Sprint(i), "p"}] = Event{Kind: "job", ID: fmt.Sprint(i), Project: "p"}
		o.mu.Unlock()
		o.flush()
	}
	for after, want := range map[uint64]bool{0: true, 999: true, 1000: true, 1009: true, 1010: false, 1011: false, o.Last(): false, o.Last() + 1: true} {
		list, last, gap := o.After(after, "p")
		if gap != want || last != o.Last() || !gap && len(list) != int(last-after) {
			t.Errorf("after %d: gap %v, %d events, last %d", after, gap, len(list), last)
		}
		if !slices.IsSortedFunc(list, func(a, b Event) int { return int(a.Sequence) - int(b.Sequence) }) {
			t.Errorf("after %d: out of order", after)
		}
	}
	if len(o.ring) != ringSize {
		t.Errorf("%d events are kept", len(o.ring))
	}
}

// TestWatch: what a transaction that went well changed is told, whatever the rows are; what it did not is not.
func TestWatch(t *testing.T) {
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "x.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var told []Event
	w := Watch(db, func(events []Event) { told = append(told, events...) })
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	update := func(fn func(store.Writer) error) []Event {
		t.Helper()
		told = nil
		_ = w.Update(context.Background(), fn)
		return told
	}
	put := func(table, id, row string) func(store.Writer) error {
		return func(tx store.Writer) error { return tx.Put(table, []byte(id), []byte(row)) }
	}
	if got := update(put("machines", "m", `{"id":"m","project":"p","name":"x","inventory":{"a":[1,2]}}`)); len(got) != 1 || got[0] != (Event{Kind: "machine", ID: "m", Project: "p"}) {
		t.Errorf("%+v", got)
	}
	if got := update(put("launches", "l", `{"id":"l","number":7,"kind":"test","project":"p","machine":"m"}`)); len(got) != 1 || got[0].Machine != "m" || got[0].Project != "p" {
		t.Errorf("%+v", got)
	}
	if got := update(func(tx store.Writer) error { return tx.Delete("machines", []byte("m")) }); len(got) != 1 || !got[0].Gone || got[0].Project != "p" {
		t.Errorf("%+v", got)
	}
	for _, row := range []string{"", "null", "[]", `{"id":`, `{"project":7}`, "\xff"} {
		if got := update(put("machines", "odd", row)); len(got) != 1 || got[0].Project != "" {
			t.Errorf("%q: %+v", row, got)
		}
	}
	if got := update(put("packs", "x", `{"project":"p"}`)); got != nil {
		t.Errorf("a table that nobody watches: %+v", got)
	}
	if got := update(func(tx store.Writer) error {
		return errors.Join(put("machines", "n", `{"project":"p"}`)(tx), errors.New("no"))
	}); got != nil {
		t.Errorf("what was not done: %+v", got)
	}
}

func FuzzBelongs(f *testing.F) {
	f.Add([]byte(`{"id":"l","number":7,"kind":"test","project":"p","machine":"m"}`))
	f.Add([]byte(`{"id":{"project":"x"},"project":["p"]}`))
	f.Fuzz(func(_ *testing.T, row []byte) { belongs(row) })
}
