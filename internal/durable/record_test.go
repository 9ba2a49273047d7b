package durable

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

var (
	errCorrupt = errors.New("it is damaged")
	errNewer   = errors.New("it is newer")
	example    = Record{Name: "example", Magic: "TEST", Version: 2, Max: 100, Corrupt: errCorrupt, Newer: errNewer}
)

// The bytes of a record do not change: files of earlier versions must be read.
func TestRecordVector(t *testing.T) {
	const want = "5445535402000000070000007b2261223a317d94d8dea6eaeee4b8bd3ad6155c03509889ac7db8a9286ff832e091d836124d30"
	b, err := example.Encode(map[string]int{"a": 1})
	if err != nil || hex.EncodeToString(b) != want {
		t.Errorf("%x, %v", b, err)
	}
}

// Every byte that is changed is noticed, and every cut.
func TestRecordDamage(t *testing.T) {
	b, err := example.Encode(map[string]int{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]int
	if err := example.Decode(b, &v); err != nil || v["a"] != 1 {
		t.Errorf("%v, %v", v, err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if err := example.Decode(bad, &v); !errors.Is(err, errCorrupt) && !errors.Is(err, errNewer) {
			t.Errorf("byte %d: %v", i, err)
		}
		if err := example.Decode(b[:i], &v); !errors.Is(err, errCorrupt) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	newer := example
	newer.Version++
	if b, err = newer.Encode(1); err != nil {
		t.Fatal(err)
	}
	if err := example.Decode(b, &v); !errors.Is(err, errNewer) {
		t.Errorf("a newer one: %v", err)
	}
	if err := example.Decode(append(b, make([]byte, 100)...), &v); !errors.Is(err, errCorrupt) {
		t.Errorf("too large: %v", err)
	}
}
