package wire

import (
	"fmt"
	"slices"
	"time"
)

// Open reports whether data may be sent at now. Weekdays name the day on which the window opens; a nil window is always open.
func (w *Window) Open(now time.Time) (bool, error) {
	if w == nil {
		return true, nil
	}
	from, err := minuteOf(w.From)
	if err != nil {
		return false, err
	}
	to, err := minuteOf(w.To)
	if err != nil {
		return false, err
	}
	now = now.UTC()
	at, day := now.Hour()*60+now.Minute(), int(now.Weekday())
	on := func(day int) bool { return len(w.Weekdays) == 0 || slices.Contains(w.Weekdays, day) }
	if from < to {
		return at >= from && at < to && on(day), nil
	}
	return at >= from && on(day) || at < to && on((day+6)%7), nil
}

// minuteOf reads "22:00" as minutes since midnight; "24:00" is the end of the day.
func minuteOf(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("read window: %.20q is no time of day such as 22:00", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}
