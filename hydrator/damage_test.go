package hydrator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// unique is an image whose chunks are all different.
func unique(seed uint64, chunks int) []byte {
	r := mrand.New(mrand.NewPCG(seed, 3))
	b := make([]byte, chunks*testChunk)
	for i := range chunks {
		fillRandom(r, b[i*testChunk:][:9000])
	}
	return b
}

func flip(at uint32) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 4; return b }
}

func TestDamagedChunkIsNamedAndTheRestGoesOn(t *testing.T) {
	for name, hurt := range map[string]func(w *hydratortest.World, l wire.Location){
		"flipped bit": func(w *hydratortest.World, l wire.Location) {
			w.Store.Corrupt(l.Pack.Name(), flip(l.Entry.Offset+5))
		},
		"cut pack": func(w *hydratortest.World, l wire.Location) {
			w.Store.Corrupt(l.Pack.Name(), func(b []byte) []byte { return b[:l.Entry.Offset+3] })
		},
		"missing pack": func(w *hydratortest.World, l wire.Location) {
			w.Store.Corrupt(l.Pack.Name(), func([]byte) []byte { return nil })
		},
		"index lost it": func(w *hydratortest.World, l wire.Location) { w.Forget(l.Entry.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			w := hydratortest.NewWorld(t, nil)
			img := unique(30, 100)
			// Nodes come last, so that they do not lie behind the cut.
			rp := w.Replicate(t, "r", hydratortest.Image{Data: img, PackSize: 256 << 10})
			at := w.Where(rp.Chunks[50])[0]
			hurt(w, at)
			path := filepath.Join(t.TempDir(), "disk.raw")
			res, err := restoreTo(t, w, rp, path, restoreOptions{batch: 10})
			if !errors.Is(err, ErrDamaged) || res.Damaged == 0 || res.Damaged > 30 {
				t.Fatalf("damaged %d, %v", res.Damaged, err)
			}
			for _, want := range []string{"disk 0", rp.Chunks[50].String()} {
				if !strings.Contains(err.Error(), want) && res.Damaged <= maxListed {
					t.Errorf("the error does not name %s: %v", want, err)
				}
			}
			if name != "index lost it" {
				if !strings.Contains(err.Error(), at.Pack.String()) || len(w.Damage()) == 0 || w.Damage()[0].Pack != at.Pack.String() {
					t.Errorf("pack %s is not named in %v or reported in %+v", at.Pack, err, w.Damage())
				}
			}
			if wrong := differing(t, path, img); int64(wrong) != res.Damaged {
				t.Errorf("%d chunks differ, %d were called damaged", wrong, res.Damaged)
			}
			j, err := journal.Open(path + journal.Suffix)
			if err != nil || j.State().To == nil || j.State().Done > 50 {
				t.Errorf("journal calls the volume whole: %+v, %v", j.State(), err)
			}
			// The agent sends it again, as another restpoint: the same volume becomes whole.
			again := w.Replicate(t, "r2", hydratortest.Image{Data: img, Copies: 2})
			mustRestore(t, w, again, path, img, restoreOptions{})
		})
	}
}

func differing(t *testing.T, path string, img []byte) (n int) {
	got, err := os.ReadFile(path)
	if err != nil || len(got) != len(img) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for i := 0; i < len(img); i += testChunk {
		if !bytes.Equal(got[i:i+testChunk], img[i:i+testChunk]) {
			n++
		}
	}
	return n
}

func TestOtherCopyIsUsed(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := unique(31, 80)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img, Copies: 3})
	at := w.Where(rp.Chunks[3])
	if len(at) != 3 {
		t.Fatalf("%d copies", len(at))
	}
	w.Store.Corrupt(at[0].Pack.Name(), flip(at[0].Entry.Offset))
	w.Store.Corrupt(at[1].Pack.Name(), func([]byte) []byte { return nil })
	path := filepath.Join(t.TempDir(), "disk.raw")
	mustRestore(t, w, rp, path, img, restoreOptions{})
	if len(w.Damage()) < 2 {
		t.Errorf("two bad copies, reported: %+v", w.Damage())
	}
}

func TestDamagedTreeNode(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := unique(32, 200) // four leaf nodes and a root
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	leaf := leafNode(w, rp.Chunks, 1)
	l := w.Where(leaf)[0]
	w.Store.Corrupt(l.Pack.Name(), flip(l.Entry.Offset+1))
	path := filepath.Join(t.TempDir(), "disk.raw")
	res, err := restoreTo(t, w, rp, path, restoreOptions{})
	if !errors.Is(err, ErrDamaged) || res.Damaged != 1 || !strings.Contains(err.Error(), leaf.String()) {
		t.Fatalf("%d, %v", res.Damaged, err)
	}
	if n := differing(t, path, img); n != 64 {
		t.Errorf("%d chunks are missing, the node covers 64", n)
	}
}

func leafNode(w *hydratortest.World, chunks []chunker.ID, index int) chunker.ID {
	var n format.Node
	copy(n.Children[:], chunks[index*format.Fanout:])
	return chunker.NewHasher(w.Keys.NodeKey()).ID(format.EncodeNode(nil, &n))
}

// Whatever the master says about locations costs an error, never a panic or memory.
func TestHostileLocations(t *testing.T) {
	for name, lie := range map[string]func(*wire.Location){
		"offset past the pack":  func(l *wire.Location) { l.Entry.Offset = 0xffffff00 },
		"offset in the header":  func(l *wire.Location) { l.Entry.Offset = 1 },
		"huge stored":           func(l *wire.Location) { l.Entry.Stored = 0xffffffff },
		"no stored":             func(l *wire.Location) { l.Entry.Stored = 0 },
		"huge raw":              func(l *wire.Location) { l.Entry.Raw = 0xffffffff },
		"other raw":             func(l *wire.Location) { l.Entry.Raw-- },
		"other kind":            func(l *wire.Location) { l.Entry.Kind ^= 3 },
		"unknown codec":         func(l *wire.Location) { l.Entry.Codec = 99 },
		"other codec":           func(l *wire.Location) { l.Entry.Codec ^= 1 },
		"other ordinal":         func(l *wire.Location) { l.Entry.Ordinal += 7 },
		"other pack":            func(l *wire.Location) { l.Pack[0] ^= 1 },
		"near the end of packs": func(l *wire.Location) { l.Entry.Offset = format.MaxPack - l.Entry.Stored },
	} {
		t.Run(name, func(t *testing.T) {
			w := hydratortest.NewWorld(t, nil)
			img := unique(33, 20)
			rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
			w.EditLocations(lie)
			path := filepath.Join(t.TempDir(), "disk.raw")
			if _, err := restoreTo(t, w, rp, path, restoreOptions{}); !errors.Is(err, ErrDamaged) {
				t.Errorf("lying about nodes and chunks: %v", err)
			}
			w.EditLocations(func(l *wire.Location) {
				if l.Entry.Kind == format.KindChunk {
					lie(l)
				}
			})
			if res, err := restoreTo(t, w, rp, path, restoreOptions{}); !errors.Is(err, ErrDamaged) || res.Damaged == 0 {
				t.Errorf("lying about chunks: %d damaged, %v", res.Damaged, err)
			}
			w.EditLocations(nil)
		})
	}
}

func TestVerify(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: unique(34, 150)}, hydratortest.Image{Data: unique(35, 30)})
	r := newReader(t, w, rp)
	var last wire.Progress
	res, err := verify(context.Background(), r, rp.Restpoint, nil, func(p wire.Progress) { last = p })
	if err != nil || res.Chunks != 180 || res.Bytes != 180*testChunk || res.Fetched == 0 || res.Written != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	if last.Done != last.Total {
		t.Errorf("progress ends at %+v", last)
	}
	at := w.Where(rp.Chunks[149])[0]
	w.Store.Corrupt(at.Pack.Name(), flip(at.Entry.Offset))
	res, err = verify(context.Background(), newReader(t, w, rp), rp.Restpoint, nil, func(wire.Progress) {})
	if !errors.Is(err, ErrDamaged) || res.Damaged != 1 || res.Chunks != 179 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestProve(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: unique(36, 100), PackSize: 200 << 10})
	job := w.Job(wire.JobProve, nil)
	job.Packs = rp.Packs
	run := func() (wire.JobResult, error) {
		return prove(context.Background(), newReader(t, w, rp), w, job, func(wire.Progress) {})
	}
	if res, err := run(); err != nil || res.Chunks != 103 || res.Damaged != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	name := func(i int) string {
		id, err := format.ParsePackID(rp.Packs[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		return id.Name()
	}
	w.Store.Corrupt(name(0), flip(60))                                              // an entry
	w.Store.Corrupt(name(1), func(b []byte) []byte { return append(b, 0) })         // longer
	w.Store.Corrupt(name(2), func(b []byte) []byte { return b[:len(b)-1] })         // shorter
	w.Store.Corrupt(name(3), func(b []byte) []byte { b[len(b)-30] ^= 1; return b }) // footer
	w.Store.Corrupt(name(4), func(b []byte) []byte { return nil })                  // gone
	res, err := run()
	if !errors.Is(err, ErrDamaged) || res.Damaged != 5 || len(w.Damage()) != 5 {
		t.Fatalf("%+v, %v, %+v", res, err, w.Damage())
	}
	for i, d := range w.Damage() {
		if d.Pack != rp.Packs[i].ID || (d.ID == "") != (i > 0) {
			t.Errorf("damage %d: %+v", i, d)
		}
	}
}

// A pack whose writer lied about an id is well sealed, and found only by hashing.
func TestProveFindsALie(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	pw, err := format.NewPackWriter(w.Keys, make([]byte, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	lie := chunker.NewHasher(w.Keys.ChunkKey()).ID([]byte("what others have"))
	content := bytes.Repeat([]byte("poison"), 100)
	if err := pw.Append(format.KindChunk, lie, chunker.Raw, len(content), content); err != nil {
		t.Fatal(err)
	}
	object, _, err := pw.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Store.Put(context.Background(), pw.ID().Name(), object, nil); err != nil {
		t.Fatal(err)
	}
	job := w.Job(wire.JobProve, nil)
	job.Packs = []wire.JobPack{{ID: pw.ID().String(), Size: int64(len(object))}}
	rp := w.Replicate(t, "r", hydratortest.Image{Data: unique(37, 1)})
	res, err := prove(context.Background(), newReader(t, w, rp), w, job, func(wire.Progress) {})
	if !errors.Is(err, ErrDamaged) || res.Damaged != 1 || fmt.Sprint(w.Damage()[0].ID) != lie.String() {
		t.Errorf("%+v, %v", res, err)
	}
}
