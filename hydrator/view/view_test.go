package view

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/staging/fault"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testChunk = chunker.MinSize

// image has holes, chunks that repeat, random ones and an odd tail.
func image(seed uint64, chunks, tail int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, chunks*testChunk+tail)
	for i := 0; i < len(b); i += testChunk {
		c := b[i:min(len(b), i+testChunk)]
		switch r.IntN(4) {
		case 0:
		case 1:
			for j := range c {
				c[j] = byte(r.IntN(2) + 1)
			}
		default:
			for j := 0; j < len(c); j++ {
				c[j] = byte(r.Uint32())
			}
		}
	}
	return b
}

func open(t testing.TB, w *hydratortest.World, rp *hydratortest.Replicated, o *Options) *View {
	t.Helper()
	r, err := reader.New(w.Job(wire.JobExport, rp), w, &reader.Options{Backoff: time.Microsecond, Timeout: 5 * time.Second, Buffers: 4, MaxGet: 1 << 20, Attempts: 30})
	if err != nil {
		t.Fatal(err)
	}
	if o == nil {
		o = &Options{}
	}
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	v, err := New(t.Context(), r, rp.Restpoint, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close(); r.Close() })
	return v
}

func mustRead(t testing.TB, d *Disk, img []byte, off, n int) {
	t.Helper()
	got := bytes.Repeat([]byte{0xA5}, n)
	m, err := d.ReadAt(got, int64(off))
	want := img[min(off, len(img)):min(off+n, len(img))]
	if m < n && !errors.Is(err, io.EOF) || m == n && err != nil {
		t.Errorf("read %d at %d: %d, %v", n, off, m, err)
		return
	}
	if !bytes.Equal(got[:m], want) {
		t.Errorf("%d bytes at %d differ from the image", n, off)
	}
}

// Readers of all kinds at once, in less memory than any of them would like, with a disk cache, while staging stumbles.
func TestSameBytes(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	base := image(1, 260, 777)
	img := bytes.Clone(base)
	for i := range 40 { // stored as patches
		img[i*6*testChunk+5000]++
	}
	w.Replicate(t, "base", hydratortest.Image{Data: base})
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img, Base: base}, hydratortest.Image{Data: base[:50*testChunk+1]})
	var rules []fault.Rule
	for i := 3; i < 3000; i += 7 {
		rules = append(rules, fault.Rule{Nth: i, Status: http.StatusServiceUnavailable}, fault.Rule{Nth: i + 2, HalfBody: true})
	}
	faulty := fault.NewHandler(w.Store, rules...)
	w.Intercept(func(rw http.ResponseWriter, r *http.Request) bool { faulty.ServeHTTP(rw, r); return true })
	for name, o := range map[string]*Options{
		"default":         {},
		"little memory":   {Memory: 1},
		"disk cache":      {Memory: 1, CacheDir: t.TempDir(), CacheSize: 100 * testChunk},
		"no reading on":   {ReadAhead: -1},
		"odd memory size": {Memory: 11*testChunk + 5},
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t, w, rp, o)
			d := v.Disks()[0]
			var readers sync.WaitGroup
			for seed := range uint64(6) {
				readers.Go(func() {
					r := rand.New(rand.NewPCG(seed, 9))
					for range 25 {
						mustRead(t, d, img, r.IntN(len(img)+10), r.IntN(5*testChunk))
					}
				})
			}
			readers.Go(func() {
				for off := 0; off < len(img); off += 100000 {
					mustRead(t, d, img, off, 100000)
				}
			})
			readers.Go(func() {
				mustRead(t, d, img, 0, len(img))
				mustRead(t, v.Disks()[1], base[:50*testChunk+1], 0, 60*testChunk)
			})
			readers.Wait()
			v.cache.mu.Lock()
			defer v.cache.mu.Unlock()
			if v.cache.peak > v.cache.limit {
				t.Errorf("%d bytes in memory, the limit is %d", v.cache.peak, v.cache.limit)
			}
			if free := int64(len(v.cache.free) * testChunk); v.cache.used+free > v.cache.limit {
				t.Errorf("%d bytes kept and %d free, the limit is %d", v.cache.used, free, v.cache.limit)
			}
		})
	}
	if n := len(w.Damage()); n != 0 {
		t.Errorf("trouble on the way was reported as damage %d times", n)
	}
}

func TestHolesCostNothing(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := make([]byte, 200*64*testChunk/8)
	copy(img[3*testChunk:], image(2, 1, 0))
	img[3*testChunk] = 1
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img}, hydratortest.Image{Data: make([]byte, 1<<20)})
	v := open(t, w, rp, nil)
	mustRead(t, v.Disks()[1], make([]byte, 1<<20), 0, 1<<20)
	if w.Gets() != 0 {
		t.Errorf("%d requests for a disk of zeros", w.Gets())
	}
	d := v.Disks()[0]
	for off := 4 * testChunk; off < len(img); off += 1 << 20 {
		mustRead(t, d, img, off, 4096)
	}
	nodes := w.Gets()
	if nodes > 4 {
		t.Errorf("%d requests for the tree over zeros", nodes)
	}
	var data int64
	for off := int64(0); off < d.Size(); {
		n, zero, err := d.Extent(context.Background(), off, d.Size())
		if err != nil || n <= 0 {
			t.Fatalf("extent at %d: %d, %v", off, n, err)
		}
		if !zero {
			data += n
		}
		off += n
	}
	if data != testChunk || w.Gets() != nodes {
		t.Errorf("%d bytes of data where one chunk is; %d more requests", data, w.Gets()-nodes)
	}
}

func TestOneFetchForAll(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := bytes.Repeat(image(4, 1, 0), 1)
	img[0] = 1
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	v := open(t, w, rp, &Options{ReadAhead: -1})
	mustRead(t, v.Disks()[0], img, 0, 0)
	gate := make(chan struct{})
	var once sync.Once
	asked := make(chan struct{})
	w.Intercept(func(http.ResponseWriter, *http.Request) bool { once.Do(func() { close(asked) }); <-gate; return false })
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() { mustRead(t, v.Disks()[0], img, 5, 1000) })
	}
	<-asked
	// One that gives up does not take the fetch with it.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Disks()[0].ReadContext(ctx, make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a read that was given up: %v", err)
	}
	close(gate)
	readers.Wait()
	if n := w.Gets(); n > 2 {
		t.Errorf("%d requests for one node and one chunk", n)
	}
}

func TestReadingOn(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := make([]byte, 512*testChunk)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(img)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img, PackSize: 16 << 20})
	v := open(t, w, rp, nil)
	for off := 0; off < len(img); off += 32 << 10 {
		mustRead(t, v.Disks()[0], img, off, 32<<10)
	}
	if n := w.Gets(); n > 120 {
		t.Errorf("%d requests for 512 chunks read in order", n)
	}
	t.Logf("%d requests", w.Gets())
}

func TestDamage(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := make([]byte, 30*testChunk)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(img)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	l := w.Where(rp.Chunks[7])[0]
	object, err := w.Store.Get(context.Background(), l.Pack.Name(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(object)
	object.Close()
	if err != nil {
		t.Fatal(err)
	}
	b[int(l.Entry.Offset)+100] ^= 1
	if err := w.Store.Delete(context.Background(), l.Pack.Name()); err != nil {
		t.Fatal(err)
	}
	if err := w.Store.Put(context.Background(), l.Pack.Name(), b, nil); err != nil {
		t.Fatal(err)
	}
	c := clock.NewFake(time.Unix(1700000000, 0))
	v := open(t, w, rp, &Options{Clock: c})
	d := v.Disks()[0]
	got := make([]byte, 3*testChunk)
	n, err := d.ReadAt(got, 6*testChunk)
	if err == nil || !reader.IsDamage(err) || n != testChunk || !bytes.Equal(got[:n], img[6*testChunk:7*testChunk]) {
		t.Errorf("read over a damaged chunk: %d bytes, %v", n, err)
	}
	if len(w.Damage()) != 1 || w.Damage()[0].ID != rp.Chunks[7].String() {
		t.Errorf("reported: %+v", w.Damage())
	}
	mustRead(t, d, img, 8*testChunk, 22*testChunk)
	gets := w.Gets()
	if _, err := d.ReadAt(got[:1], 7*testChunk); err == nil {
		t.Error("the damaged chunk was read")
	}
	if w.Gets() != gets {
		t.Error("what is known to be damaged was asked for again at once")
	}
	// An agent sends it anew: after a while it is there.
	w.Replicate(t, "again", hydratortest.Image{Data: img})
	c.Advance(time.Minute)
	mustRead(t, d, img, 7*testChunk, testChunk)
}

func TestCacheOnDiskIsNotBelieved(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := make([]byte, 40*testChunk)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(img)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	v := open(t, w, rp, &Options{Memory: 1, ReadAhead: -1, CacheDir: t.TempDir(), CacheSize: 64 * testChunk})
	d := v.Disks()[0]
	mustRead(t, d, img, 0, len(img))
	gets := w.Gets()
	mustRead(t, d, img, 0, 30*testChunk)
	if w.Gets() != gets {
		t.Error("chunks that are in the disk cache were fetched")
	}
	if _, err := v.spill.f.WriteAt(make([]byte, 64*testChunk), 0); err != nil {
		t.Fatal(err)
	}
	mustRead(t, d, img, 0, len(img))
	if w.Gets() == gets {
		t.Error("a disk cache of zeros was believed")
	}
}

func TestEndOfView(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(5, 100, 0)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	r, err := reader.New(w.Job(wire.JobExport, rp), w, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	lost := errors.New("lease lost")
	ctx, cancel := context.WithCancelCause(context.Background())
	v, err := New(ctx, r, rp.Restpoint, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 1000)
	w.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		<-r.Context().Done()
		return true
	})
	var readers sync.WaitGroup
	for i := range 5 {
		readers.Go(func() {
			if _, err := v.Disks()[0].ReadAt(make([]byte, len(img)), int64(i*testChunk)); !errors.Is(err, lost) {
				t.Errorf("read when the lease is lost: %v", err)
			}
		})
	}
	<-asked
	cancel(lost)
	readers.Wait()
	v.Close()
	if _, err := v.Disks()[0].ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("a closed view was read")
	}
}
