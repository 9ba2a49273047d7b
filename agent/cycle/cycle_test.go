package cycle_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/staging/memstore"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type ring struct{ k *format.Keys }

func (r ring) Keys(context.Context, string) (*format.Keys, error) { return r.k, nil }

// world is a real catalog over a bucket in memory, and one machine.
type world struct {
	t       *testing.T
	keys    *format.Keys
	bucket  *memstore.Store
	catalog *catalog.Catalog
	machine catalog.Machine
	key     ed25519.PrivateKey
	putter  *staging.SignedClient
	dir     *state.Dir
	dirPath string
	blocks  *state.Blocks
	last    string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, keys: format.NewKeys(), bucket: memstore.New(nil)}
	server := httptest.NewServer(w.bucket)
	t.Cleanup(server.Close)
	w.bucket.SetBaseURL(server.URL)
	u, err := url.Parse(server.URL)
	must(t, err)
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "db"), nil)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	_, masterKey, err := ed25519.GenerateKey(nil)
	must(t, err)
	w.catalog, err = catalog.New(db, w.bucket, ring{w.keys}, masterKey, clock.Real{}, nil)
	must(t, err)
	var pub ed25519.PublicKey
	pub, w.key, err = ed25519.GenerateKey(nil)
	must(t, err)
	w.machine, err = w.catalog.CreateMachine(context.Background(), catalog.Machine{Name: "web1", SigningKey: pub})
	must(t, err)
	w.putter, err = staging.NewSignedClient([]string{u.Host}, nil)
	must(t, err)
	t.Cleanup(w.putter.Close)
	w.dirPath = t.TempDir()
	w.reopen()
	t.Cleanup(func() { w.blocks.Close(); must(t, w.dir.Close()) })
	return w
}

// reopen starts the agent's state anew, as a restart does.
func (w *world) reopen() {
	w.t.Helper()
	if w.dir != nil {
		w.blocks.Close()
		must(w.t, w.dir.Close())
	}
	var err error
	w.dir, err = state.Open(w.dirPath)
	must(w.t, err)
	w.blocks = state.NewBlocks(w.dir, 0)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// link speaks to the catalog as one machine.
type link struct {
	c       *catalog.Catalog
	machine string
	commit  func() error // before a commit reaches the catalog
	after   func() error // after it did
}

func (l *link) OpenSession(ctx context.Context, r *wire.SessionRequest) (*wire.Session, error) {
	s, err := l.c.OpenSession(ctx, l.machine, *r)
	return &s, err
}

func (l *link) RenewSession(ctx context.Context, s string, p *wire.Progress) (*wire.SessionLease, error) {
	x, err := l.c.RenewSession(ctx, l.machine, s, *p)
	return &x, err
}

func (l *link) Offer(ctx context.Context, s string, ids []chunker.ID) (wire.Bitmap, error) {
	return l.c.Offer(ctx, l.machine, s, ids)
}

func (l *link) Announce(ctx context.Context, s string, p []wire.PackAnnounce) ([]wire.PackUpload, error) {
	return l.c.Announce(ctx, l.machine, s, p)
}

func (l *link) CommitPack(ctx context.Context, s string, p format.PackID, e []byte) error {
	return l.c.CommitPack(ctx, l.machine, s, p, e)
}

func (l *link) CommitSession(ctx context.Context, s string, m []byte) (*wire.Committed, error) {
	if l.commit != nil {
		if err := l.commit(); err != nil {
			return nil, err
		}
	}
	x, err := l.c.CommitSession(ctx, l.machine, s, m)
	if err == nil && l.after != nil {
		err = l.after()
	}
	return &x, err
}

func (l *link) AbortSession(ctx context.Context, s string, f *wire.Failure) error {
	return l.c.AbortSession(ctx, l.machine, s, *f)
}

func (w *world) config(sources ...source.Source) cycle.Config {
	return cycle.Config{
		Master: &link{c: w.catalog, machine: w.machine.ID}, Staging: w.putter, State: w.dir, Keys: w.keys, Project: w.machine.Project,
		Machine: w.machine.ID, SigningKey: w.key, Version: "test", Sources: sources, ChunkSize: chunker.MinSize, Last: w.last, Blocks: w.blocks,
	}
}

// run makes a restpoint and checks that it restores to want, disk by disk.
func (w *world) run(sources []source.Source, want ...[]byte) *cycle.Result {
	w.t.Helper()
	r, err := cycle.Run(context.Background(), w.config(sources...))
	must(w.t, err)
	w.last = r.Restpoint
	w.check(r.Restpoint, want...)
	return r
}

// check restores a restpoint by the plainest means and compares it byte by byte.
func (w *world) check(id string, want ...[]byte) {
	w.t.Helper()
	ctx := context.Background()
	p, err := w.catalog.Restpoint(ctx, id)
	must(w.t, err)
	if len(p.Disks) != len(want) {
		w.t.Fatalf("restpoint has %d disks, want %d", len(p.Disks), len(want))
	}
	for i, d := range p.Disks {
		got := make([]byte, d.Size)
		nodes, err := w.catalog.NodeReader(ctx, p.Project, p.Machine)
		must(w.t, err)
		opener, err := format.NewOpener(w.keys)
		must(w.t, err)
		var open func(id chunker.ID) ([]byte, error)
		open = func(id chunker.ID) ([]byte, error) {
			locs, err := w.catalog.ResolveFor(ctx, p.Project, p.Machine, []chunker.ID{id})
			if err != nil || !locs[0].Found {
				return nil, fmt.Errorf("%s: found %v, %w", id, locs[0].Found, err)
			}
			e := locs[0].Entry
			r, err := w.bucket.Get(ctx, locs[0].Pack.Name(), int64(e.Offset), int64(e.Stored))
			if err != nil {
				return nil, err
			}
			stored, err := io.ReadAll(r)
			if err != nil {
				return nil, err
			}
			if !e.IsPatch() {
				return opener.OpenVerified(locs[0].Pack, e, stored, nil)
			}
			base, err := open(e.Base)
			if err != nil {
				return nil, err
			}
			return opener.OpenPatch(locs[0].Pack, e, stored, bytes.Clone(base), nil)
		}
		err = format.Walk(ctx, nodes, d.Root, d.Layout().Chunks(), nil, func(index int64, id chunker.ID) error {
			content, err := open(id)
			off, n := d.Layout().Extent(index)
			if err == nil && len(content) != n {
				err = fmt.Errorf("chunk %d has %d bytes, want %d", index, len(content), n)
			}
			copy(got[off:], content)
			return err
		})
		must(w.t, err)
		if !bytes.Equal(got, want[i]) {
			w.t.Fatalf("disk %d of restpoint %s differs from the original", i, id)
		}
	}
}

// content makes bytes that are in part random, in part text, in part zero.
func content(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for off := 0; off < n; {
		l := min(n-off, 1+r.IntN(300000))
		switch r.IntN(3) {
		case 0:
			for i := range l {
				b[off+i] = byte(r.Uint32())
			}
		case 1:
			copy(b[off:off+l], bytes.Repeat([]byte(fmt.Sprintf("line %d\n", r.IntN(50))), l/6+1))
		}
		off += l
	}
	return b
}

// file writes b sparsely and returns it as a source.
func file(t *testing.T, name string, b []byte) source.Source {
	t.Helper()
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(int64(len(b))))
	for off := 0; off < len(b); off += 4096 {
		block := b[off:min(off+4096, len(b))]
		if !chunker.IsZero(block) {
			_, err := f.WriteAt(block, int64(off))
			must(t, err)
		}
	}
	s, err := source.New(name, nil)
	must(t, err)
	return s
}

// TestCyclesFollowADisk changes, grows, shrinks and punches a disk, and restores every restpoint, the old ones again at the end.
func TestCyclesFollowADisk(t *testing.T) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(7, 7))
	name := filepath.Join(t.TempDir(), "disk")
	b := content(r, 9<<20+1234)
	history := map[string][]byte{}
	for step := range 14 {
		src := file(t, name, b)
		res := w.run([]source.Source{src}, b)
		history[res.Restpoint] = bytes.Clone(b)
		if step == 0 && res.Stats.Sent == 0 {
			t.Error("the first cycle sent nothing")
		}
		if got := res.Stats.Zero + res.Stats.Same + res.Stats.Known + res.Stats.Sent; got != int64(len(b)) || res.Stats.Done != res.Stats.Total {
			t.Errorf("step %d: zero+same+known+sent = %d of %d bytes; done %d of %d", step, got, len(b), res.Stats.Done, res.Stats.Total)
		}
		if step%3 == 2 { // unchanged: one object, the restpoint
			before := w.bucket.Puts()
			res := w.run([]source.Source{src}, b)
			if n := w.bucket.Puts() - before; n != 1 || res.Stats.Packs != 0 {
				t.Errorf("step %d: an unchanged disk took %d objects and %d packs", step, n, res.Stats.Packs)
			}
		}
		switch step % 5 {
		case 0: // change a little
			copy(b[r.IntN(len(b)-100000):], content(r, 90000))
		case 1: // zero a large range
			off := r.IntN(len(b) / 2)
			clear(b[off : off+len(b)/3])
		case 2: // grow past a level of the tree
			b = append(b, make([]byte, 3<<20+r.IntN(5000))...)
			copy(b[len(b)-70000:], content(r, 70000))
		case 3: // shrink
			b = bytes.Clone(b[:len(b)-2<<20-r.IntN(9999)])
		case 4: // back to something that was there before
			for _, old := range history {
				b = bytes.Clone(old)
				break
			}
		}
		if step == 6 {
			w.reopen()
		}
	}
	for id, want := range history {
		w.check(id, want)
	}
}

func TestTwoDisksAndDedup(t *testing.T) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(8, 8))
	dir := t.TempDir()
	b := content(r, 6<<20)
	x, y := file(t, filepath.Join(dir, "x"), b), file(t, filepath.Join(dir, "y"), b)
	res := w.run([]source.Source{x, y}, b, b)
	if res.Stats.Known < res.Stats.Sent {
		t.Errorf("sent %d, known %d: the second disk is the same as the first", res.Stats.Sent, res.Stats.Known)
	}
	_, err := cycle.Run(context.Background(), w.config(x, x))
	if err == nil {
		t.Error("one disk was taken twice")
	}
}

func TestEmptyAndZeroDisks(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	zero := make([]byte, 1<<20)
	res := w.run([]source.Source{file(t, filepath.Join(dir, "zero"), zero), file(t, filepath.Join(dir, "empty"), nil)}, zero, nil)
	if res.Stats.Packs != 0 {
		t.Errorf("zeros took %d packs", res.Stats.Packs)
	}
}

// TestLostAcknowledgement: the master listed the restpoint, the agent never heard of it.
func TestLostAcknowledgement(t *testing.T) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(9, 9))
	name := filepath.Join(t.TempDir(), "disk")
	b := content(r, 5<<20)
	w.run([]source.Source{file(t, name, b)}, b)
	copy(b[1<<20:], content(r, 500000))
	src := file(t, name, b)
	conf := w.config(src)
	var listed string
	conf.Master = &link{c: w.catalog, machine: w.machine.ID, after: func() error { return errors.New("connection lost") }}
	if _, err := cycle.Run(context.Background(), conf); err == nil {
		t.Fatal("a lost answer is no error")
	}
	p, err := w.catalog.Restpoint(context.Background(), w.machine.ID+"/latest")
	must(t, err)
	if listed = p.ID; listed == w.last {
		t.Fatal("the restpoint was not listed")
	}
	w.reopen()
	w.last = listed
	res := w.run([]source.Source{src}, b)
	if res.Stats.Same+res.Stats.Zero != int64(len(b)) {
		t.Errorf("after the lost answer %+v: the base should have been taken over", res.Stats)
	}
}

// TestInterrupted: a cycle that dies before its commit is resumed for the price of reading.
func TestInterrupted(t *testing.T) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(10, 10))
	b := content(r, 8<<20)
	src := file(t, filepath.Join(t.TempDir(), "disk"), b)
	conf := w.config(src)
	conf.Master = &link{c: w.catalog, machine: w.machine.ID, commit: func() error { return errors.New("killed") }}
	if _, err := cycle.Run(context.Background(), conf); err == nil {
		t.Fatal("no error")
	}
	w.reopen()
	res := w.run([]source.Source{src}, b)
	if res.Stats.Sent != 0 || res.Stats.Packs != 0 {
		t.Errorf("sent %d bytes in %d packs again", res.Stats.Sent, res.Stats.Packs)
	}
}

// TestReadFaults: a cycle that cannot read everything makes no restpoint, says where, and the next one goes on.
func TestReadFaults(t *testing.T) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(11, 11))
	b := content(r, 4<<20)
	b[3<<20] |= 1
	mem := sourcetest.NewMemory("mem", slices.Clone(b))
	faulty := &sourcetest.Faulty{Source: mem}
	faulty.FailReads(3<<20, 4096, -1, errors.New("input/output error"))
	_, err := cycle.Run(context.Background(), w.config(faulty))
	var re *source.ReadError
	if !errors.As(err, &re) || re.Offset < 3<<20-1<<20 {
		t.Fatalf("error %v: want a read error with its place", err)
	}
	if e := cycle.EventOf(err); e == nil || e.Code != "read-error" || e.Offset == nil {
		t.Errorf("event %+v", e)
	}
	if _, err := w.catalog.Restpoint(context.Background(), w.machine.ID+"/latest"); !wire.HasCode(err, wire.CodeNotFound) {
		t.Errorf("a restpoint was listed: %v", err)
	}
	faulty.Heal()
	w.run([]source.Source{faulty}, b)
	faulty.Vanish()
	if _, err := cycle.Run(context.Background(), w.config(faulty)); !errors.Is(err, source.ErrVanished) {
		t.Errorf("a vanished disk: %v", err)
	}
}

func TestStopsCleanly(t *testing.T) {
	w := newWorld(t)
	b := content(rand.New(rand.NewPCG(12, 12)), 8<<20)
	src := file(t, filepath.Join(t.TempDir(), "disk"), b)
	for i := range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*5*time.Millisecond)
		conf := w.config(src)
		if res, err := cycle.Run(ctx, conf); err == nil {
			w.last = res.Restpoint
		}
		cancel()
		w.reopen()
		if p, err := w.catalog.Restpoint(context.Background(), w.machine.ID+"/latest"); err == nil {
			w.last = p.ID
		}
	}
	w.run([]source.Source{src}, b)
}
