package format

import (
	"bytes"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
)

// sample is an encoded content of a kind that packs are full of, and the entry that it is sealed as.
type sample struct {
	name string
	data []byte
	Entry
}

func samples(t testing.TB, k *Keys) []sample {
	t.Helper()
	c, err := chunker.NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("one row of a table\n"), chunker.DefaultSize)[:chunker.DefaultSize]
	frame, codec := c.Compress(nil, chunk)
	if codec != chunker.Zstd {
		t.Fatalf("text is stored with codec %d", codec)
	}
	n := Node{}
	for i := range n.Children {
		n.Children[i] = chunker.ID{byte(i), 1}
	}
	node := EncodeNode(nil, &n)
	id := chunker.NewHasher(k.ChunkKey()).ID(chunk)
	return []sample{
		{"raw", chunk, Entry{Kind: KindChunk, Codec: chunker.Raw, ID: id, Raw: chunker.DefaultSize}},
		{"zstd", frame, Entry{Kind: KindChunk, Codec: chunker.Zstd, ID: id, Raw: chunker.DefaultSize}},
		{"node", node, Entry{Kind: KindNode, Codec: chunker.Raw, ID: chunker.NewHasher(k.NodeKey()).ID(node), Raw: uint32(len(node))}},
	}
}

// pack seals s alone and returns its pack, the entry and the sealed bytes.
func (s *sample) pack(t testing.TB, k *Keys) (PackID, Entry, []byte) {
	t.Helper()
	w, err := NewPackWriter(k, make([]byte, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(s.Kind, s.ID, s.Codec, int(s.Raw), s.data); err != nil {
		t.Fatal(err)
	}
	object, entries, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	e := entries[0]
	return w.ID(), e, object[e.Offset:][:e.Stored]
}

// TestNoAllocationPerEntry counts what a writer allocates from its second pack on and an opener from its second entry on.
func TestNoAllocationPerEntry(t *testing.T) {
	k := vectorKeys(t)
	for _, s := range samples(t, k) {
		w, err := NewPackWriter(k, make([]byte, 0, PackTarget))
		must(t, err)
		const runs = 50
		write := func() { must(t, w.Append(s.Kind, s.ID, s.Codec, int(s.Raw), s.data)) }
		for range runs + 1 { // AllocsPerRun calls once more than it counts
			write()
		}
		must(t, w.Reset())
		if n := testing.AllocsPerRun(runs, write); n > 0 {
			t.Errorf("%s: Append allocates %v times per entry", s.name, n)
		}

		id, e, stored := s.pack(t, k)
		o, err := NewOpener(k)
		must(t, err)
		dst := make([]byte, 0, chunker.DefaultSize+chunker.Slack)
		for name, open := range map[string]func(PackID, Entry, []byte, []byte) ([]byte, error){"Open": o.Open, "OpenVerified": o.OpenVerified} {
			read := func() {
				out, err := open(id, e, stored, dst)
				must(t, err)
				if &out[0] != &dst[:1][0] {
					t.Error("the content is not where it was wanted")
				}
			}
			// The fewest of several tries: under the race detector the decoder's pools forget at random what they hold.
			n := testing.AllocsPerRun(runs, read)
			for range 10 {
				n = min(n, testing.AllocsPerRun(runs/10, read))
			}
			if n > 0 {
				t.Errorf("%s: %s allocates %v times per entry", s.name, name, n)
			}
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	k := fuzzKeys(b)
	for _, s := range samples(b, k) {
		b.Run(s.name, func(b *testing.B) {
			w, err := NewPackWriter(k, make([]byte, 0, PackTarget))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(s.data)))
			b.ReportAllocs()
			for b.Loop() {
				if !w.Room(len(s.data)) {
					if err := w.Reset(); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Append(s.Kind, s.ID, s.Codec, int(s.Raw), s.data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	k := fuzzKeys(b)
	for _, s := range samples(b, k) {
		id, e, stored := s.pack(b, k)
		for name, verified := range map[string]bool{"": false, "Verified": true} {
			b.Run(s.name+name, func(b *testing.B) {
				o, err := NewOpener(k)
				if err != nil {
					b.Fatal(err)
				}
				open := o.Open
				if verified {
					open = o.OpenVerified
				}
				dst := make([]byte, 0, chunker.DefaultSize+chunker.Slack)
				b.SetBytes(int64(e.Raw))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := open(id, e, stored, dst); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
