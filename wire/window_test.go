package wire

import (
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	at := func(day, hour int) time.Time { return time.Date(2026, 3, 2+day, hour, 0, 0, 0, time.UTC) } // day 0: Monday
	night := Window{From: "22:00", To: "06:00"}
	mondays := Window{From: "22:00", To: "06:00", Weekdays: []int{1}}
	for _, c := range []struct {
		w    *Window
		now  time.Time
		open bool
	}{
		{nil, at(0, 3), true},
		{&Window{From: "08:00", To: "18:00"}, at(0, 8), true},
		{&Window{From: "08:00", To: "18:00"}, at(0, 18), false},
		{&Window{From: "00:00", To: "24:00"}, at(0, 23), true},
		{&night, at(0, 23), true}, {&night, at(0, 5), true}, {&night, at(0, 6), false},
		{&mondays, at(0, 23), true}, {&mondays, at(1, 5), true}, {&mondays, at(0, 5), false}, {&mondays, at(1, 23), false},
	} {
		if open, err := c.w.Open(c.now); err != nil || open != c.open {
			t.Errorf("%+v at %v: %v, %v; want %v", c.w, c.now, open, err, c.open)
		}
	}
	for _, w := range []Window{{From: "noon", To: "13:00"}, {From: "12:00", To: "1"}} {
		if _, err := w.Open(at(0, 3)); err == nil {
			t.Errorf("%+v is taken for a window", w)
		}
	}
}
