package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/builtin"
	"github.com/openmigrate/openmigrate/staging/s3store"
)

// serveArg makes the test program the server.
const serveArg = "serve-staging-for-test"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serveArg {
		if err := builtin.ServeFrom(context.Background(), os.Stdin); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func TestRequestsAreCountedAndWork(t *testing.T) {
	g, err := Start(t.Context(), t.TempDir(), serveArg)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	before := g.Requests()
	if before.Sum() != 0 {
		t.Errorf("the start counts as %v", before)
	}
	o, err := s3store.ParseURL(g.Staging())
	if err != nil {
		t.Fatal(err)
	}
	o.AccessKey, o.SecretKey = g.AccessKey, g.SecretKey
	store, err := s3store.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	content := []byte(strings.Repeat("object", 1000))
	for range 2 {
		if err = store.Put(t.Context(), "a/b", content, &staging.PutOptions{IfAbsent: true}); err != nil && !errors.Is(err, staging.ErrExists) {
			t.Fatal(err)
		}
	}
	if got := g.Requests().Since(before); got[http.MethodPut] != 2 || got.Sum() != 2 {
		t.Errorf("two PUTs count as %v", got)
	}
	signed, err := store.SignGet(t.Context(), "a/b", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	client, err := staging.NewSignedClient([]string{strings.TrimPrefix(g.counter.url, "https://")}, g.cert.der)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	before = g.Requests()
	body, err := client.Get(t.Context(), signed, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if b, err := io.ReadAll(body); err != nil || !bytes.Equal(b, content) {
		t.Errorf("a signed GET past the counter brings %d bytes, %v", len(b), err)
	}
	if got := g.Requests().Since(before); got[http.MethodGet] != 1 || got.Sum() != 1 {
		t.Errorf("a GET counts as %v", got)
	}
}
