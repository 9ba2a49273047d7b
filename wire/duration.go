package wire

import (
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a time.Duration that JSON shows as Go writes it ("30s").
type Duration time.Duration

// MarshalJSON writes the form that time.ParseDuration reads.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// maxDuration bounds the text of a duration, in bytes; the longest that MarshalJSON writes has 24.
const maxDuration = 64

// UnmarshalJSON reads what time.ParseDuration does.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("parse duration: %w", err)
	}
	if len(s) > maxDuration {
		return fmt.Errorf("parse duration: text of %d bytes, at most %d", len(s), maxDuration)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("parse duration: %w", err)
	}
	*d = Duration(v)
	return nil
}
