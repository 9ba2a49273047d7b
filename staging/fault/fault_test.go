package fault_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/fault"
	"github.com/openmigrate/openmigrate/staging/memstore"
	"github.com/openmigrate/openmigrate/staging/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformanceWithoutRules(t *testing.T) {
	storetest.Run(t, func(*testing.T) (staging.Store, *storetest.Options) { return fault.New(memstore.New(nil)), nil })
}

func TestPut(t *testing.T) {
	for _, c := range []struct {
		name  string
		rule  fault.Rule
		want  []error // of three puts
		there bool    // after the first
	}{
		{"first", fault.Rule{Op: "Put", Err: staging.ErrFull}, []error{staging.ErrFull, nil, nil}, false},
		{"after the work", fault.Rule{Op: "Put", Err: staging.ErrTemporary, After: true}, []error{staging.ErrTemporary, nil, nil}, true},
		{"second and third", fault.Rule{Nth: 2, Times: 2, Err: staging.ErrDenied}, []error{nil, staging.ErrDenied, staging.ErrDenied}, true},
		{"all", fault.Rule{Times: -1, Err: staging.ErrDenied}, []error{staging.ErrDenied, staging.ErrDenied, staging.ErrDenied}, false},
		{"of another", fault.Rule{Op: "Get", Err: staging.ErrDenied}, []error{nil, nil, nil}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			below := memstore.New(nil)
			s := fault.New(below, c.rule)
			for i, want := range c.want {
				if err := s.Put(t.Context(), "a", []byte("x"), nil); !errors.Is(err, want) {
					t.Errorf("put %d: %v, want %v", i+1, err, want)
				}
				if _, err := below.Stat(t.Context(), "a"); i == 0 && (err == nil) != c.there {
					t.Errorf("stat below: %v, want object: %v", err, c.there)
				}
			}
		})
	}
}

func TestHalfBody(t *testing.T) {
	s := fault.New(memstore.New(nil), fault.Rule{Op: "Get", HalfBody: true})
	if err := s.Put(t.Context(), "a", []byte("abcdef"), nil); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); string(b) != "abc" || !errors.Is(err, staging.ErrTemporary) {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestHangEndsWithContext(t *testing.T) {
	s := fault.New(memstore.New(nil), fault.Rule{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, "a", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
}

func TestSeedRepeats(t *testing.T) {
	run := func(seed uint64) string {
		s := fault.New(memstore.New(nil))
		s.Randomly(seed, 0.3)
		var b strings.Builder
		for range 100 {
			if s.Put(t.Context(), "a", nil, nil) != nil {
				b.WriteByte('!')
			} else {
				b.WriteByte('.')
			}
		}
		return b.String()
	}
	one := run(1)
	if one != run(1) || one == run(2) || !strings.Contains(one, "!") || !strings.Contains(one, ".") {
		t.Errorf("faults of a seed: %s, then %s", one, run(1))
	}
}

// serve puts an object behind a faulty server and returns the right to read it and to write another.
func serve(t *testing.T, rules ...fault.Rule) (*memstore.Store, string, staging.SignedRequest, staging.SignedRequest) {
	t.Helper()
	below := memstore.New(nil)
	srv := httptest.NewServer(fault.NewHandler(below, rules...))
	t.Cleanup(srv.Close)
	below.SetBaseURL(srv.URL)
	if err := below.Put(t.Context(), "a", []byte("abcdef"), nil); err != nil {
		t.Fatal(err)
	}
	get, err := below.SignGet(t.Context(), "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	put, err := below.SignPut(t.Context(), "b", staging.SignPut{Size: 1, CRC32C: staging.Checksum([]byte("x")), Valid: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return below, strings.TrimPrefix(srv.URL, "http://"), get, put
}

func TestSignedPutOverHTTP(t *testing.T) {
	for _, c := range []struct {
		name  string
		rule  fault.Rule
		there bool
	}{
		{"500", fault.Rule{Op: "PUT", Status: 500}, false},
		{"503 after the work", fault.Rule{Op: "PUT", Status: 503, After: true}, true},
		{"broken", fault.Rule{Op: "PUT", Err: fault.ErrBroken}, false},
		{"broken after the work", fault.Rule{Op: "PUT", Err: fault.ErrBroken, After: true}, true},
	} {
		for _, side := range []string{"server", "client"} {
			t.Run(c.name+" at the "+side, func(t *testing.T) {
				rules := []fault.Rule{c.rule}
				var transport http.RoundTripper = &http.Transport{}
				if side == "client" {
					transport, rules = fault.NewTransport(transport, c.rule), nil
				}
				below, host, _, put := serve(t, rules...)
				client := staging.NewSignedClientWith(transport, []string{host})
				defer client.Close()
				if err := client.Put(t.Context(), put, []byte("x"), func(r io.Reader) io.Reader { return io.MultiReader(r) }); !errors.Is(err, staging.ErrTemporary) {
					t.Errorf("put: %v, want ErrTemporary", err)
				}
				if _, err := below.Stat(t.Context(), "b"); (err == nil) != c.there {
					t.Errorf("stat below: %v, want object: %v", err, c.there)
				}
			})
		}
	}
}

func TestSignedBodyBreaks(t *testing.T) {
	_, host, get, _ := serve(t, fault.Rule{Op: "GET", HalfBody: true, Times: 2})
	client := staging.NewSignedClientWith(&http.Transport{}, []string{host})
	defer client.Close()
	for _, length := range []int64{-1, 6} {
		r, err := client.Get(t.Context(), get, 0, length)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if string(b) != "abc" || !errors.Is(err, staging.ErrTemporary) {
			t.Errorf("read %q, %v, want half and ErrTemporary", b, err)
		}
		_ = r.Close()
	}
}

func TestServerNeverAnswers(t *testing.T) {
	_, host, get, _ := serve(t, fault.Rule{Hang: true})
	client := staging.NewSignedClientWith(&http.Transport{}, []string{host})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := client.Get(ctx, get, 0, -1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("get: %v", err)
	}
}
