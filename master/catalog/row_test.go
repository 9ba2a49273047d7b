package catalog

import (
	"reflect"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
)

func TestPackRow(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, p := range []Pack{
		{Seq: 1, State: PackAnnounced},
		{
			ID: format.PackID{1, 2}, Seq: 1 << 40, Project: "default", Machine: "m", Session: "s", Size: 64 << 20, CRC32C: staging.CRC32C{3},
			State: PackLive, Entries: 200, Epoch: 7, Committed: at, Proven: at.Add(1), Changed: at.Add(2), URLUntil: at.Add(3), ProveJob: true,
			Contents: [32]byte{4, 31: 5},
		},
	} {
		got, err := decodePack(p.Seq, appendPack(nil, &p))
		if err != nil || !reflect.DeepEqual(*got, p) {
			t.Errorf("%+v came back as %+v, %v", p, got, err)
		}
	}
	// A row of version 1 has no Contents.
	want := Pack{Seq: 3, State: PackLive, Project: "p", Machine: "m", Session: "s"}
	b := appendPack(nil, &want)
	b = append(b[:packRowFixed:packRowFixed], b[packRowFixed+32:]...)
	b[0] = 1
	if got, err := decodePack(3, b); err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("a row of version 1 is %+v, %v", got, err)
	}
}

func FuzzPackRow(f *testing.F) {
	f.Add(appendPack(nil, &Pack{Project: "default", Machine: "m", Session: "s", State: PackLive}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePack(1, b)
		if err != nil {
			return
		}
		again, err := decodePack(1, appendPack(nil, p))
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("%+v came back as %+v, %v", p, again, err)
		}
	})
}

func FuzzIndexRow(f *testing.F) {
	x := indexRow{pack: 5, damaged: true, entry: format.Entry{Kind: format.KindNode, Ordinal: 1, Offset: 2, Stored: 3, Raw: 4}}
	f.Add(indexKey(1, &x.entry.ID, x.pack), x.append(nil))
	x.entry.Kind, x.entry.Codec, x.entry.Base = format.KindChunk, chunker.Patch, chunker.ID{3}
	f.Add(indexKey(1, &x.entry.ID, x.pack), x.append(nil))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		x, err := decodeIndexRow(key, value)
		if err != nil {
			return
		}
		again, err := decodeIndexRow(indexKey(1, &x.entry.ID, x.pack), x.append(nil))
		if err != nil || again != x {
			t.Errorf("%+v came back as %+v, %v", x, again, err)
		}
	})
}

type handClock struct{ d time.Duration }

func (h *handClock) Elapsed() time.Duration { return h.d }

func TestLeases(t *testing.T) {
	clk := &handClock{d: time.Hour}
	l := newLeases(clk, time.Minute)
	l.grant("a")
	clk.d += time.Minute
	if !l.renew("a") || !l.alive("unheard of since the start") {
		t.Error("dead after exactly its time")
	}
	clk.d += time.Minute
	release, ok := l.hold("a")
	clk.d += time.Hour
	if !ok || !l.renew("a") {
		t.Error("dead while a call was under way")
	}
	clk.d += time.Hour
	release()
	clk.d += time.Minute
	if !l.alive("a") {
		t.Error("dead within its time after the call")
	}
	clk.d++
	if l.alive("a") || l.renew("a") || l.alive("unheard of since the start") {
		t.Error("alive after its time")
	}
	if _, ok := l.hold("a"); ok {
		t.Error("a dead lease was held")
	}
	l.grant("b")
	l.drop("b")
	if l.renew("b") || len(l.held) != 0 {
		t.Error("alive after it was dropped")
	}
}
