package builtin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/builtin"
	"github.com/openmigrate/openmigrate/staging/s3store"
)

func content(round, i int) []byte {
	b := make([]byte, 1000+i*7919)
	_, _ = rand.NewChaCha8([32]byte{byte(round), byte(i)}).Read(b) // never fails
	return b
}

// TestKill kills the server by SIGKILL while objects come in over both ways. What was acknowledged is whole afterwards, and
// what was not is whole or absent.
func TestKill(t *testing.T) {
	const rounds, writers = 20, 8
	srv, store := start(t)
	u, err := url.Parse(srv.S3.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	client, err := staging.NewSignedClient([]string{u.Host}, srv.S3.CA)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	random := rand.New(rand.NewPCG(1, 2))
	acknowledged := 0
	for round := range rounds {
		killAfter := int64(1 + random.IntN(3*writers)) // puts that ended
		pid := srv.PID()
		if pid == 0 {
			t.Fatal("no child runs")
		}
		var done atomic.Int64
		var once sync.Once
		acked := make([]int, writers) // each writer's own
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := w; ; i += writers {
					if putOne(t.Context(), store, client, round, i) != nil {
						return // killed
					}
					acked[w]++
					if done.Add(1) == killAfter {
						once.Do(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
					}
				}
			})
		}
		wg.Wait()
		waitRestart(t, srv, store, pid)
		for w, n := range acked {
			for k := range n + 1 { // one more than was acknowledged: the one in flight
				verify(t, store, round, w+k*writers, k < n)
			}
			acknowledged += n
		}
		if t.Failed() {
			return
		}
	}
	if acknowledged < rounds {
		t.Errorf("%d objects acknowledged in %d rounds: too few to tell", acknowledged, rounds)
	}
}

func putOne(ctx context.Context, store *s3store.Store, client *staging.SignedClient, round, i int) error {
	b, name := content(round, i), fmt.Sprintf("r%d/%d/%d", round, i%3, i)
	if i%2 == 0 {
		return store.Put(ctx, name, b, &staging.PutOptions{IfAbsent: true})
	}
	s, err := store.SignPut(ctx, name, staging.SignPut{Size: int64(len(b)), CRC32C: staging.Checksum(b), Valid: time.Minute})
	if err != nil {
		return err
	}
	return client.Put(ctx, s, b, nil)
}

// waitRestart returns when another child than old answers.
func waitRestart(t *testing.T, srv *builtin.Server, store *s3store.Store, old int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if pid := srv.PID(); pid != 0 && pid != old {
			if _, err := store.Stat(ctx, "absent"); errors.Is(err, staging.ErrNotFound) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the server did not come back")
		}
	}
}

func verify(t *testing.T, store *s3store.Store, round, i int, acked bool) {
	t.Helper()
	name := fmt.Sprintf("r%d/%d/%d", round, i%3, i)
	r, err := store.Get(t.Context(), name, 0, -1)
	if errors.Is(err, staging.ErrNotFound) && !acked {
		return
	}
	if err != nil {
		t.Errorf("acknowledged %v: %v", acked, err)
		return
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(b, content(round, i)) {
		t.Errorf("%s (acknowledged %v) is damaged: %d bytes, %v", name, acked, len(b), err)
	}
}
