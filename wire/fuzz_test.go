package wire

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

func someLocations() ([]chunker.ID, []Location) {
	ids := []chunker.ID{{1}, {2}, {31: 3}}
	return ids, []Location{
		{Found: true, Pack: format.PackID{7, 31: 8}, Entry: format.Entry{Kind: format.KindChunk, Codec: chunker.Zstd, ID: ids[0], Ordinal: 1, Offset: 2, Stored: 3, Raw: 4}},
		{},
		{Found: true, Pack: format.PackID{9}, Entry: format.Entry{Kind: format.KindNode, ID: ids[2], Ordinal: 1 << 31, Offset: 1<<32 - 1, Stored: 60, Raw: 44}},
	}
}

// TestLocationsHaveOneEncoding flips each byte that says nothing.
func TestLocationsHaveOneEncoding(t *testing.T) {
	ids, want := someLocations()
	good := EncodeLocations(nil, want)
	got, err := DecodeLocations(good, ids)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("location %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	for name, at := range map[string]int{
		"found": 0, "reserved": 3, "kind of none": LocationSize + 1, "codec of none": LocationSize + 2, "reserved of none": LocationSize + 3,
		"raw of none": LocationSize + 19, "pack of none": 2*LocationSize - 1,
	} {
		bad := bytes.Clone(good)
		bad[at] += 2
		if got, err := DecodeLocations(bad, ids); err == nil {
			t.Errorf("%s changed: taken as %+v", name, got)
		}
	}
	for _, b := range [][]byte{nil, good[:len(good)-1], append(bytes.Clone(good), 0), good[:LocationSize]} {
		if _, err := DecodeLocations(b, ids); err == nil {
			t.Errorf("%d bytes are taken for %d ids", len(b), len(ids))
		}
	}
}

func FuzzDecodeLocations(f *testing.F) {
	_, locs := someLocations()
	f.Add(EncodeLocations(nil, locs))
	f.Add(make([]byte, LocationSize))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		ids := make([]chunker.ID, len(b)/LocationSize)
		for i := range ids {
			ids[i] = chunker.ID{byte(i), 31: 1}
		}
		locs, err := DecodeLocations(b, ids)
		if err != nil {
			return
		}
		if !bytes.Equal(EncodeLocations(nil, locs), b) {
			t.Errorf("%x reads as %+v", b, locs)
		}
		for i, l := range locs {
			if l.Found && l.Entry.ID != ids[i] || !l.Found && l != (Location{}) {
				t.Errorf("location %d is %+v", i, l)
			}
		}
	})
}

func FuzzDecodeIDs(f *testing.F) {
	f.Add(EncodeIDs(nil, []chunker.ID{{1}, {}, {31: 2}}))
	f.Add(make([]byte, chunker.IDSize-1))
	f.Add(make([]byte, (MaxOffer+1)*chunker.IDSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := DecodeIDs(b)
		if err != nil {
			return
		}
		if len(ids) > MaxOffer || !bytes.Equal(EncodeIDs(nil, ids), b) {
			t.Errorf("%d bytes read as %d ids", len(b), len(ids))
		}
	})
}

func TestDecodeBitmap(t *testing.T) {
	for _, tt := range []struct {
		b  []byte
		n  int
		ok bool
	}{
		{nil, 0, true}, {[]byte{0}, 0, false}, {[]byte{1}, 1, true}, {[]byte{2}, 1, false}, {[]byte{255}, 8, true},
		{[]byte{255}, 9, false}, {[]byte{255, 1}, 9, true}, {[]byte{255, 3}, 9, false}, {[]byte{255, 1, 0}, 9, false},
	} {
		if _, err := DecodeBitmap(tt.b, tt.n); (err == nil) != tt.ok {
			t.Errorf("%v for %d ids: %v", tt.b, tt.n, err)
		}
	}
}

func FuzzDecodeBitmap(f *testing.F) {
	f.Add([]byte{0b101}, uint16(3))
	f.Add([]byte{0xff, 0xff}, uint16(9))
	f.Add([]byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		got, err := DecodeBitmap(b, int(n))
		if err != nil {
			return
		}
		again := NewBitmap(int(n))
		for i := range int(n) {
			if got.Get(i) {
				again.Set(i)
			}
		}
		if !bytes.Equal(again, b) || got.Get(int(n)) {
			t.Errorf("%x for %d ids reads as %x", b, n, again)
		}
	})
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{`"30s"`, `"-1h2m3.5s"`, `""`, `null`, `5`, `"9223372036854775807ns"`, `"1e9s"`, `{}`, `"` + strings.Repeat("0", 100) + `s"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d, again Duration
		err := json.Unmarshal(b, &d)
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			return
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &again); err != nil || again != d {
			t.Errorf("%s is written as %s and read as %s: %v", b, text, time.Duration(again), err)
		}
	})
}

func FuzzParsePackID(f *testing.F) {
	f.Add(format.PackID{0xab, 31: 0xcd}.String())
	f.Add(strings.Repeat("AB", 32))
	f.Add(strings.Repeat("é", 32))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := format.ParsePackID(s)
		if err == nil && id.String() != s {
			t.Errorf("%q reads as %s", s, id)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
	})
}

// FuzzProblem: whatever a server answers with an error status becomes a problem that says something.
func FuzzProblem(f *testing.F) {
	f.Add([]byte(`{"title":"Conflict","code":"conflict","detail":"d","next":"n","status":200}`), 409)
	f.Add([]byte(`{"code":""}`), 500)
	f.Add([]byte(`<html>`), 502)
	f.Add([]byte(`null`), 404)
	f.Fuzz(func(t *testing.T, b []byte, status int) {
		p := problemIn(b, status, http.MethodGet, "/x")
		if p.Status != status || p.Code == "" {
			t.Errorf("%q with status %d is %+v", b, status, p)
		}
		if !HasCode(p, p.Code) || HasCode(p, "") {
			t.Errorf("code %q is not found", p.Code)
		}
	})
}
