package reader_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testImage does not compress.
func testImage(chunks int) []byte {
	b := make([]byte, chunks*chunker.MinSize)
	_, _ = rand.NewChaCha8([32]byte{byte(chunks)}).Read(b)
	return b
}

// readAll reads every chunk of a restpoint once.
func readAll(ctx context.Context, w *hydratortest.World, rp *hydratortest.Replicated, o reader.Options) (map[int64][]byte, error) {
	if o.Backoff == 0 {
		o.Backoff = time.Millisecond
	}
	r, err := reader.New(w.Job(wire.JobVerify, rp), w, &o)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var mu sync.Mutex
	got := map[int64][]byte{}
	sent := false
	err = r.Read(ctx, func(context.Context) ([]reader.Want, error) {
		if sent {
			return nil, nil
		}
		sent = true
		var wants []reader.Want
		for i, id := range rp.Chunks {
			wants = append(wants, reader.Want{ID: id, Kind: format.KindChunk, Raw: chunker.MinSize, Index: int64(i)})
		}
		return wants, nil
	}, reader.Sink{
		Deliver: func(w reader.Want, content []byte) error {
			mu.Lock()
			defer mu.Unlock()
			got[w.Index] = bytes.Clone(content)
			return nil
		},
		Damaged: func(_ reader.Want, err error) error { return err },
	})
	return got, err
}

func mustReadAll(t *testing.T, w *hydratortest.World, rp *hydratortest.Replicated, img []byte, o reader.Options) {
	t.Helper()
	got, err := readAll(context.Background(), w, rp, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(len(rp.Chunks)) {
		if !bytes.Equal(got[i], img[i*chunker.MinSize:][:chunker.MinSize]) {
			t.Fatalf("chunk %d is wrong", i)
		}
	}
}

func TestAdjacentEntriesComeWithOneRequest(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := testImage(100)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img, PackSize: 16 << 20})
	mustReadAll(t, w, rp, img, reader.Options{})
	if w.Gets() != 1 {
		t.Errorf("%d requests for 100 adjacent chunks", w.Gets())
	}
}

func TestTroubleThatPasses(t *testing.T) {
	for name, trouble := range map[string]func(rw http.ResponseWriter, r *http.Request){
		"500":     func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) },
		"503":     func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(503) },
		"429":     func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(429) },
		"no body": func(rw http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
		"half a body": func(rw http.ResponseWriter, r *http.Request) {
			var from, to int
			if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
				t.Error(err)
			}
			rw.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, to+1000))
			rw.Header().Set("Content-Length", strconv.Itoa(to-from+1))
			rw.WriteHeader(http.StatusPartialContent)
			_, _ = rw.Write(make([]byte, 50000))
			panic(http.ErrAbortHandler)
		},
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"refused":   func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(403) },
	} {
		t.Run(name, func(t *testing.T) {
			w := hydratortest.NewWorld(t, nil)
			img := testImage(30)
			rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
			var n atomic.Int32
			w.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				if n.Add(1) > 1 {
					return false
				}
				trouble(rw, r)
				return true
			})
			mustReadAll(t, w, rp, img, reader.Options{Timeout: 300 * time.Millisecond})
			if len(w.Damage()) != 0 {
				t.Errorf("trouble on the way was reported as damage: %+v", w.Damage())
			}
		})
	}
}

func TestTroubleThatStays(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: testImage(30)})
	for status, want := range map[int]error{500: staging.ErrTemporary, 403: staging.ErrDenied, 302: nil, 418: nil} {
		w.Intercept(func(rw http.ResponseWriter, _ *http.Request) bool {
			rw.Header().Set("Location", "http://example.com/")
			rw.WriteHeader(status)
			return true
		})
		_, err := readAll(context.Background(), w, rp, reader.Options{Attempts: 3})
		if err == nil || want != nil && !errors.Is(err, want) || reader.IsDamage(err) {
			t.Errorf("status %d: %v", status, err)
		}
		if strings.Contains(err.Error(), "signature=") {
			t.Errorf("the error shows a signed URL: %v", err)
		}
	}
	if len(w.Damage()) != 0 {
		t.Errorf("trouble on the way was reported as damage: %+v", w.Damage())
	}
}

func TestExpiredURLsAreRenewed(t *testing.T) {
	c := clock.NewFake(time.Unix(1700000000, 0))
	w := hydratortest.NewWorld(t, c)
	img := testImage(100)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img, PackSize: 100 << 10})
	w.SetURLsValid(time.Minute)
	// The reader's own clock stands still: only the bucket notices that the URLs are too old.
	var n atomic.Int32
	w.Intercept(func(http.ResponseWriter, *http.Request) bool {
		if n.Add(1)%20 == 0 {
			c.Advance(2 * time.Minute)
		}
		return false
	})
	mustReadAll(t, w, rp, img, reader.Options{Clock: clock.NewFake(time.Unix(0, 0)), Attempts: 20})
}

func TestOtherHostsAreRefused(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: testImage(3)})
	host := w.Host
	w.Host = "staging.example.com:443"
	if _, err := readAll(context.Background(), w, rp, reader.Options{}); err == nil || !strings.Contains(err.Error(), host) {
		t.Errorf("a URL to %s was not refused: %v", host, err)
	}
	if w.Gets() != 0 {
		t.Error("a host that is not allowed was asked")
	}
	job := w.Job(wire.JobVerify, rp)
	job.StagingHosts = nil
	if _, err := reader.New(job, w, nil); err == nil {
		t.Error("a job without staging hosts was accepted")
	}
}

func TestReadEndsWithItsContext(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: testImage(300), PackSize: 128 << 10})
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	stop := errors.New("enough")
	var n atomic.Int32
	w.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) == 3 {
			cancel(stop)
		}
		return false
	})
	if _, err := readAll(ctx, w, rp, reader.Options{}); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func TestDeliverErrorEndsRead(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: testImage(300), PackSize: 128 << 10})
	r, err := reader.New(w.Job(wire.JobVerify, rp), w, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	full := errors.New("no space left")
	for range 3 { // buffers come back each time
		sent := false
		err := r.Read(context.Background(), func(context.Context) (wants []reader.Want, err error) {
			if !sent {
				for i, id := range rp.Chunks {
					wants = append(wants, reader.Want{ID: id, Kind: format.KindChunk, Index: int64(i)})
				}
			}
			sent = true
			return wants, nil
		}, reader.Sink{
			Deliver: func(reader.Want, []byte) error { return full },
			Damaged: func(_ reader.Want, err error) error { return err },
		})
		if !errors.Is(err, full) {
			t.Fatalf("%v", err)
		}
	}
}
