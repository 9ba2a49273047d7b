package ebsdirect_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/aws/awsfake"
	"github.com/openmigrate/openmigrate/providers/aws/ebsdirect"
	"github.com/openmigrate/openmigrate/providers/aws/price"
	"github.com/openmigrate/openmigrate/providers/aws/sizing"
	"github.com/openmigrate/openmigrate/wire"
)

// stepClock moves by itself, so that every acknowledged block is worth a note and no pace makes a test wait.
type stepClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *stepClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(300 * time.Millisecond)
	return c.now
}

// disk is a replicated image with what a Copy needs.
type disk struct {
	rp      *hydratortest.Replicated
	data    []byte
	content ebsdirect.Content
}

func replicate(t testing.TB, w *hydratortest.World, name string, data []byte) *disk {
	rp := w.Replicate(t, name, hydratortest.Image{Data: data, ChunkSize: 128 << 10})
	d := rp.Restpoint.Disks[0]
	return &disk{rp, data, ebsdirect.Content{Machine: "m1", Disk: d.ID, Restpoint: name, Size: d.Size, ChunkSize: d.ChunkSize, Root: d.Root.String()}}
}

// source reads a restpoint as a hydrator does.
func source(t testing.TB, w *hydratortest.World, d *disk) ebsdirect.Source {
	return func(ctx context.Context, parent *ebsdirect.Content, from int64, to *ebsdirect.Sink) error {
		r, err := reader.New(w.Job(wire.JobHydrate, d.rp), w, &reader.Options{Buffers: 3})
		if err != nil {
			return err
		}
		defer r.Close()
		br := hydrator.BlockRange{Size: ebsdirect.BlockSize, From: from}
		if parent != nil {
			root, err := chunker.ParseID(parent.Root)
			if err != nil {
				return err
			}
			br.Old = &journal.Content{Disk: parent.Disk, Size: parent.Size, ChunkSize: parent.ChunkSize, Root: root}
		}
		return hydrator.Blocks(ctx, r, &d.rp.Restpoint.Disks[0], br, to)
	}
}

// image has runs of zeros and of noise.
func image(seed uint64, size int) []byte {
	r := mrand.New(mrand.NewPCG(seed, 1))
	b := make([]byte, size)
	for at := 0; at < size; {
		n := min(size-at, (1+r.IntN(12))*100<<10)
		if r.IntN(2) == 0 {
			noise(r, b[at:at+n])
		}
		at += n
	}
	return b
}

func noise(r *mrand.Rand, b []byte) {
	for i := 0; i+8 <= len(b); i += 8 {
		v := r.Uint64()
		for k := range 8 {
			b[i+k] = byte(v >> (8 * k))
		}
	}
}

// changed is data with some blocks written, and one run that became zeros.
func changed(data []byte, seed uint64, grow int) []byte {
	r := mrand.New(mrand.NewPCG(seed, 2))
	b := append(bytes.Clone(data), make([]byte, grow)...)
	for range 3 {
		at := r.IntN(len(b) - 4096)
		noise(r, b[at:at+4096])
	}
	clear(b[2<<20 : 3<<20+100])
	return b
}

func openJournal(t testing.TB, path string) *ebsdirect.Journal {
	t.Helper()
	j, err := ebsdirect.OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestChain(t *testing.T) {
	w, f := hydratortest.NewWorld(t, nil), newWorld(t, awsfake.Options{})
	c := f.client()
	path := filepath.Join(t.TempDir(), "disk.snapshots")
	data := image(1, 8<<20+512)
	parent := ""
	for i := range 4 {
		d := replicate(t, w, fmt.Sprint("r", i), data)
		puts := f.count("PutSnapshotBlock")
		forecast := foresee(t, w, d, openJournal(t, path))
		res, err := c.Copy(t.Context(), openJournal(t, path), ebsdirect.CopySpec{Content: d.content, Token: fmt.Sprint("t", i), Tags: map[string]string{"a": "b"}}, source(t, w, d))
		if err != nil {
			t.Fatal(err)
		}
		if res.Parent != parent || !res.Completed || int(res.Puts) != f.count("PutSnapshotBlock")-puts || res.Blocks != res.Puts {
			t.Errorf("restpoint %d: %+v on parent %q with %d puts", i, res, parent, f.count("PutSnapshotBlock")-puts)
		}
		if forecast.Puts != res.Puts || math.Abs(forecast.Cost.Total-float64(f.count("PutSnapshotBlock")-puts)*0.006/1000) > 1e-9 {
			t.Errorf("restpoint %d: foreseen %d puts for %v, it took %d", i, forecast.Puts, forecast.Cost.Total, res.Puts)
		}
		if i > 0 && res.Blocks > 8 {
			t.Errorf("restpoint %d: %d blocks for three changes and a zeroed run", i, res.Blocks)
		}
		f.read(t, res.Snapshot, data)
		out, err := f.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{res.Snapshot}})
		if err != nil || len(out.Snapshots[0].Tags) != 1 || *out.Snapshots[0].Tags[0].Value != "b" {
			t.Errorf("tags: %v, %v", out, err)
		}
		if err := f.Disk(res.Snapshot).Extents(func(off int64) {
			b := make([]byte, ebsdirect.BlockSize)
			if _, err := f.Disk(res.Snapshot).ReadAt(b, off); i == 0 && (err != nil || bytes.Equal(b, make([]byte, len(b)))) {
				t.Errorf("the block at %d of the first snapshot is zeros (%v)", off, err)
			}
		}); err != nil {
			t.Error(err)
		}
		parent = res.Snapshot
		data = changed(data, uint64(i), i%2*(1<<20))
	}
	// A smaller disk, and a parent that is gone, lead to a full one.
	small := data[:5<<20]
	d := replicate(t, w, "small", small)
	res, err := c.Copy(t.Context(), openJournal(t, path), ebsdirect.CopySpec{Content: d.content, Token: "small"}, source(t, w, d))
	if err != nil || res.Parent != "" {
		t.Fatalf("%+v, %v", res, err)
	}
	f.read(t, res.Snapshot, small)
	f.remove(t, res.Snapshot)
	next := changed(small, 9, 0)
	d = replicate(t, w, "next", next)
	if res, err = c.Copy(t.Context(), openJournal(t, path), ebsdirect.CopySpec{Content: d.content, Token: "next"}, source(t, w, d)); err != nil || res.Parent != "" {
		t.Fatalf("%+v, %v", res, err)
	}
	f.read(t, res.Snapshot, next)
}

// foresee counts what a copy onto the end of a chain will put, and what that costs.
func foresee(t testing.TB, w *hydratortest.World, d *disk, j *ebsdirect.Journal) sizing.Forecast {
	r, err := reader.New(w.Job(wire.JobHydrate, d.rp), w, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	br := hydrator.BlockRange{Size: ebsdirect.BlockSize}
	if held := j.Record().Holds; held != nil {
		root, err := chunker.ParseID(held.Content.Root)
		if err != nil {
			t.Fatal(err)
		}
		br.Old = &journal.Content{Disk: held.Content.Disk, Size: held.Content.Size, ChunkSize: held.Content.ChunkSize, Root: root}
	}
	n, err := hydrator.CountBlocks(t.Context(), r, &d.rp.Restpoint.Disks[0], br)
	if err != nil {
		t.Fatal(err)
	}
	s := sizing.Situation{Disks: []sizing.DiskLoad{{Size: d.content.Size, Blocks: n}}, Now: time.Now(),
		Prices: &price.File{Currency: "USD", Prices: map[string]price.Price{price.SnapshotPuts: {Price: 0.006, Source: "test"}}}}
	return s.Direct(false)
}

// TestKilled ends a copy before and after the work of each call, with the journal as it was at that moment, and goes on.
func TestKilled(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	base := image(2, 4<<20)
	first, second := replicate(t, w, "r1", base), replicate(t, w, "r2", changed(base, 3, 0))
	killed := 0
	for _, done := range []bool{false, true} {
		for at := 1; ; at++ {
			f := newWorld(t, awsfake.Options{})
			path := filepath.Join(t.TempDir(), "j")
			if _, err := f.client().Copy(t.Context(), openJournal(t, path), ebsdirect.CopySpec{Content: first.content, Token: "one"}, source(t, w, first)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var mu sync.Mutex
			n := 0
			var kept []byte
			f.hook(func(_ string, was bool, rw http.ResponseWriter) bool {
				mu.Lock()
				defer mu.Unlock()
				if was == done {
					n++
				}
				if n < at {
					return false
				}
				if kept == nil {
					kept, _ = os.ReadFile(path)
					cancel()
				}
				return true // the answer is lost
			})
			spec := ebsdirect.CopySpec{Content: second.content, Token: "two"}
			_, err := f.client().Copy(ctx, openJournal(t, path), spec, source(t, w, second))
			cancel()
			if err == nil {
				if n >= at {
					t.Fatal("a copy whose host died succeeded")
				}
				break // it makes fewer calls than that
			}
			killed++
			f.hook(nil)
			if err := os.WriteFile(path, kept, 0o600); err != nil {
				t.Fatal(err)
			}
			res, err := f.client().Copy(t.Context(), openJournal(t, path), spec, source(t, w, second))
			if err != nil {
				t.Fatalf("killed at call %d (done %v): %v", at, done, err)
			}
			f.read(t, res.Snapshot, second.data)
			if n := len(f.snapshots(t)); n != 2 {
				t.Errorf("killed at call %d (done %v): %d snapshots", at, done, n)
			}
		}
	}
	if killed < 10 {
		t.Errorf("killed only %d times", killed)
	}
}

// TestResumed counts what a copy that goes on puts again.
func TestResumed(t *testing.T) {
	w, f := hydratortest.NewWorld(t, nil), newWorld(t, awsfake.Options{})
	full := make([]byte, 24<<20)
	noise(mrand.New(mrand.NewPCG(4, 4)), full)
	d := replicate(t, w, "r1", full)
	path := filepath.Join(t.TempDir(), "j")
	ctx, cancel := context.WithCancel(t.Context())
	f.hook(func(action string, done bool, _ http.ResponseWriter) bool {
		if done && action == "PutSnapshotBlock" && f.count(action) == 40 {
			cancel()
		}
		return false
	})
	spec := ebsdirect.CopySpec{Content: d.content, Token: "one"}
	part, err := f.client().Copy(ctx, openJournal(t, path), spec, source(t, w, d))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	f.hook(nil)
	j := openJournal(t, path)
	if wr := j.Record().Writing; wr == nil || wr.Put < 40-16-4 || wr.Put > 40 { // what is in the buffers may overtake one that is not acknowledged
		t.Fatalf("the journal says %+v", wr)
	}
	res, err := f.client().Copy(t.Context(), j, spec, source(t, w, d))
	if err != nil {
		t.Fatal(err)
	}
	f.read(t, res.Snapshot, d.data)
	if again := part.Puts + res.Puts - res.Blocks; again < 0 || again > 16+4 {
		t.Errorf("%d and %d puts for %d blocks", part.Puts, res.Puts, res.Blocks)
	}

	// Another content leaves a pending snapshot behind, and says so.
	d2 := replicate(t, w, "r2", changed(d.data, 1, 0))
	d3 := replicate(t, w, "r3", changed(d2.data, 2, 0))
	ctx, cancel = context.WithCancel(t.Context())
	f.hook(func(action string, done bool, _ http.ResponseWriter) bool {
		if done && action == "PutSnapshotBlock" {
			cancel()
		}
		return false
	})
	if _, err = f.client().Copy(ctx, openJournal(t, path), ebsdirect.CopySpec{Content: d2.content, Token: "two"}, source(t, w, d2)); err == nil {
		t.Fatal("not ended")
	}
	f.hook(nil)
	j = openJournal(t, path)
	res3, err := f.client().Copy(t.Context(), j, ebsdirect.CopySpec{Content: d3.content, Token: "three"}, source(t, w, d3))
	if err != nil || res3.Parent != res.Snapshot {
		t.Fatalf("%+v, %v", res3, err)
	}
	f.read(t, res3.Snapshot, d3.data)
	left := j.Record().Abandoned
	if len(left) != 1 {
		t.Fatalf("abandoned %v", left)
	}
	if st, err := f.state(t.Context(), left[0]); st != ebsdirect.StatePending {
		t.Errorf("abandoned %v is %q, %v", left, st, err)
	}
	f.remove(t, left[0])
	if err := j.Forget(left...); err != nil || len(openJournal(t, path).Record().Abandoned) != 0 {
		t.Error("not forgotten")
	}
}

// TestLost goes on when the service cancels the pending snapshot, also under the copy.
func TestLost(t *testing.T) {
	w, f := hydratortest.NewWorld(t, nil), newWorld(t, awsfake.Options{})
	d := replicate(t, w, "r1", image(6, 6<<20))
	var once sync.Once
	f.hook(func(action string, done bool, _ http.ResponseWriter) bool {
		if done && action == "PutSnapshotBlock" {
			once.Do(func() { f.remove(t, *f.snapshots(t)[0].SnapshotId) })
		}
		return false
	})
	j := openJournal(t, filepath.Join(t.TempDir(), "j"))
	res, err := f.client().Copy(t.Context(), j, ebsdirect.CopySpec{Content: d.content, Token: "one"}, source(t, w, d))
	if err != nil {
		t.Fatal(err)
	}
	f.read(t, res.Snapshot, d.data)
	if r := j.Record(); len(r.Abandoned) != 1 || r.Holds.ID != res.Snapshot {
		t.Errorf("%+v", r)
	}
	// It does not go on forever.
	f.hook(func(action string, done bool, rw http.ResponseWriter) bool {
		if action == "PutSnapshotBlock" && !done {
			refuse(rw, 400, "ValidationException", "INVALID_SNAPSHOT_ID")
			return true
		}
		return false
	})
	_, err = f.client().Copy(t.Context(), j, ebsdirect.CopySpec{Content: d.content, Token: "again", Full: true}, source(t, w, d))
	if !errors.Is(err, ebsdirect.ErrGone) {
		t.Errorf("error %v", err)
	}
}

// TestRefused: each refusal is a clear message of the right class, and nothing is completed.
func TestRefused(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	d := replicate(t, w, "r1", image(7, 3<<20))
	for _, c := range []struct {
		on, code, reason string
		status           int
		class            error
		says             string
	}{
		{"StartSnapshot", "AccessDeniedException", "", 403, providers.ErrDenied, "ebs:StartSnapshot"},
		{"PutSnapshotBlock", "AccessDeniedException", "", 403, providers.ErrDenied, "ebs:PutSnapshotBlock"},
		{"CompleteSnapshot", "AccessDeniedException", "", 403, providers.ErrDenied, "ebs:CompleteSnapshot"},
		{"PutSnapshotBlock", "AccessDeniedException", "DEPENDENCY_ACCESS_DENIED", 403, providers.ErrDenied, "KMS key"},
		{"PutSnapshotBlock", "ExpiredTokenException", "", 403, providers.ErrDenied, "expired"},
		{"StartSnapshot", "UnrecognizedClientException", "", 403, providers.ErrDenied, "credentials"},
		{"StartSnapshot", "ValidationException", "INVALID_CUSTOMER_KEY", 400, providers.ErrInvalid, "KMS key is disabled"},
		{"StartSnapshot", "ServiceQuotaExceededException", "DEPENDENCY_SERVICE_QUOTA_EXCEEDED", 402, providers.ErrQuota, "no room"},
		{"PutSnapshotBlock", "InternalServerException", "", 500, providers.ErrTryAgain, "repeated for"},
		{"StartSnapshot", "ConcurrentLimitExceededException", "", 400, providers.ErrTryAgain, "pending"},
		{"PutSnapshotBlock", "ValidationException", "INVALID_BLOCK", 400, providers.ErrInvalid, "cannot succeed"},
	} {
		t.Run(c.on+"/"+c.code+c.reason, func(t *testing.T) {
			f := newWorld(t, awsfake.Options{})
			f.hook(func(action string, done bool, rw http.ResponseWriter) bool {
				if action == c.on && !done {
					refuse(rw, c.status, c.code, c.reason)
					return true
				}
				return false
			})
			j := openJournal(t, filepath.Join(t.TempDir(), "j"))
			_, err := f.client().Copy(t.Context(), j, ebsdirect.CopySpec{Content: d.content, Token: "one"}, source(t, w, d))
			if !errors.Is(err, c.class) || !bytes.Contains([]byte(fmt.Sprint(err)), []byte(c.says)) {
				t.Errorf("error %v, want %v and %q", err, c.class, c.says)
			}
			if j.Record().Holds != nil {
				t.Error("the journal has a snapshot")
			}
			// When the cause is gone it goes on.
			f.hook(nil)
			res, err := f.client().Copy(t.Context(), j, ebsdirect.CopySpec{Content: d.content, Token: "one"}, source(t, w, d))
			if err != nil {
				t.Fatal(err)
			}
			f.read(t, res.Snapshot, d.data)
			if n := len(f.snapshots(t)); n != 1 {
				t.Errorf("%d snapshots", n)
			}
		})
	}
	t.Run("no credentials", func(t *testing.T) {
		f := newWorld(t, awsfake.Options{})
		api := ebsdirect.NewAPI(aws.Config{Region: "eu-north-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("no role here")
		})}, f.url, 0)
		_, err := ebsdirect.New(api, nil).Start(t.Context(), &ebsdirect.StartSpec{Token: "x", Size: 1})
		if !errors.Is(err, providers.ErrDenied) {
			t.Errorf("error %v", err)
		}
	})
}

// TestSourceFails: a snapshot whose source failed is not completed.
func TestSourceFails(t *testing.T) {
	w, f := hydratortest.NewWorld(t, nil), newWorld(t, awsfake.Options{})
	d := replicate(t, w, "r1", image(8, 3<<20))
	bad := errors.New("bucket is gone")
	for name, src := range map[string]ebsdirect.Source{
		"error": func(ctx context.Context, _ *ebsdirect.Content, _ int64, to *ebsdirect.Sink) error {
			if _, full, err := to.Reserve(ctx, 2); err == nil {
				full()
			}
			return bad
		},
		"not full": func(ctx context.Context, _ *ebsdirect.Content, _ int64, to *ebsdirect.Sink) error {
			_, _, err := to.Reserve(ctx, 2)
			return err
		},
		"order": func(ctx context.Context, _ *ebsdirect.Content, _ int64, to *ebsdirect.Sink) error {
			_, _, err := to.Reserve(ctx, 2)
			_, _, err2 := to.Reserve(ctx, 1)
			return errors.Join(err, err2)
		},
	} {
		_, err := f.client().Copy(t.Context(), openJournal(t, filepath.Join(t.TempDir(), name)), ebsdirect.CopySpec{Content: d.content, Token: name}, src)
		if err == nil || name == "error" && !errors.Is(err, bad) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if f.count("CompleteSnapshot") != 0 {
		t.Error("completed")
	}
}
