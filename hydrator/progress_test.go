package hydrator

import "testing"

// The mark never passes a chunk that is not written, whatever the order.
func TestTrackerMark(t *testing.T) {
	tr := newTracker(10)
	want := func(step string, mark, at int64) {
		t.Helper()
		if _, got := tr.totals(1); tr.mark() != mark || got != at {
			t.Errorf("%s: mark %d at %d, want %d at %d", step, tr.mark(), got, mark, at)
		}
	}
	want("start", 10, 10)
	tr.begin(2, 20)
	tr.begin(1, 30)
	tr.begin(0, 40) // zeros, written already
	tr.begin(1, 50)
	want("nothing is written", 10, 10)
	tr.done(1, 5)
	want("the second batch first", 10, 15)
	tr.done(0, 1)
	want("half of the first", 10, 16)
	tr.done(0, 1)
	want("the first: all up to the last", 40, 40)
	tr.begin(2, 60)
	tr.damaged(3, 44)
	want("damage ends it", 44, 50)
	tr.done(4, 1)
	tr.done(4, 1)
	want("for good", 44, 60)
	if res, _ := tr.totals(1); res.Damaged != 1 || res.Chunks != 5 || res.Bytes != 9 {
		t.Errorf("%+v", res)
	}
	tr.damaged(-1, 12)
	want("a subtree", 12, 60)
}
