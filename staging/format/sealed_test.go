package format

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

type testRecord struct {
	ID    string `json:"id"`
	Bytes []byte `json:"bytes,omitempty"`
}

func recordKeys(t testing.TB, first byte) *Keys {
	t.Helper()
	b := make([]byte, KeysSize)
	for i := range b {
		b[i] = first + byte(i)
	}
	k, err := UnmarshalKeys(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRecordRoundTrip(t *testing.T) {
	k := recordKeys(t, 1)
	want := testRecord{ID: "m-1", Bytes: []byte{1, 2, 3}}
	a, err := SealJSON(k, "machines/m-1", want)
	if err != nil {
		t.Fatal(err)
	}
	var got testRecord
	if err := OpenJSON(k, "machines/m-1", a, &got); err != nil {
		t.Fatal(err)
	}
	if got.ID != want.ID || !bytes.Equal(got.Bytes, want.Bytes) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	b, err := SealJSON(k, "machines/m-1", want)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a[recordHeader:], b[recordHeader:]) {
		t.Fatal("two writes of one record were sealed alike: the salt is not random")
	}
	if bytes.Contains(a, []byte("m-1")) {
		t.Fatal("the record can be read without the keys")
	}
}

func TestRecordRefused(t *testing.T) {
	k := recordKeys(t, 1)
	good, err := SealJSON(k, "machines/m-1", testRecord{ID: "m-1"})
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	tests := []struct {
		what, name string
		keys       *Keys
		object     []byte
		want       error
	}{
		{"another object's name", "machines/m-2", k, good, ErrCorrupt},
		{"another project's keys", "machines/m-1", recordKeys(t, 9), good, ErrWrongKey},
		{"cut short", "machines/m-1", k, good[:len(good)-1], ErrCorrupt},
		{"header only", "machines/m-1", k, good[:recordHeader], ErrCorrupt},
		{"longer", "machines/m-1", k, append(bytes.Clone(good), 0), ErrCorrupt},
		{"empty", "machines/m-1", k, nil, ErrCorrupt},
		{"other magic", "machines/m-1", k, change(0, 'X'), ErrCorrupt},
		{"newer version", "machines/m-1", k, change(4, 2), ErrVersion},
		{"unknown feature", "machines/m-1", k, change(6, 1), ErrVersion},
		{"other salt", "machines/m-1", k, change(20, good[20]^1), ErrCorrupt},
		{"other content", "machines/m-1", k, change(recordHeader, good[recordHeader]^1), ErrCorrupt},
		{"too long", "machines/m-1", k, append(bytes.Clone(good), make([]byte, MaxRecord)...), ErrCorrupt},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			var v testRecord
			if err := OpenJSON(tt.keys, tt.name, tt.object, &v); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if v.ID != "" {
				t.Fatalf("a refused record was decoded: %+v", v)
			}
		})
	}
	if _, err := SealJSON(k, "machines/m-1", testRecord{ID: strings.Repeat("x", MaxRecord)}); err == nil {
		t.Fatal("a record past the limit was sealed")
	}
}

// The vector keeps the layout: a record that an earlier program wrote opens for ever.
func TestRecordVector(t *testing.T) {
	k := recordKeys(t, 1)
	salt := bytes.Repeat([]byte{0x5a}, 32)
	object, err := sealJSON(k, "machines/m-1", testRecord{ID: "m-1"}, bytes.NewReader(salt))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(object); got != recordVector {
		t.Fatalf("record is\n%s\nwant\n%s", got, recordVector)
	}
}

func FuzzOpenJSON(f *testing.F) {
	k := recordKeys(f, 1)
	// A fixed salt: the processes that fuzz must agree on what is good.
	good, err := sealJSON(k, "machines/m-1", testRecord{ID: "m-1"}, bytes.NewReader(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:recordHeader])
	f.Add([]byte("OMSJ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v testRecord
		if err := OpenJSON(k, "machines/m-1", b, &v); err == nil && !bytes.Equal(b, good) {
			t.Fatalf("a forged record opened: %x", b)
		}
	})
}

const recordVector = "4f4d534a010000008b88bb82c31fdc6c5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a" +
	"1c0000003ce78b2de024af55f736f973075fc089b06771539764dda4faa5c54d"
