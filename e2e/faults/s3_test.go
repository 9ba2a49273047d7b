package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/staging/builtin"
	"github.com/openmigrate/openmigrate/staging/s3store"
)

// faultyS3 is a real S3 server behind a proxy that misbehaves.
type faultyS3 struct {
	url string // for --staging
	env []string

	mu   sync.Mutex
	mode string     // guarded by mu; empty: well
	rand *rand.Rand // guarded by mu
}

func (f *faultyS3) set(mode string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode = mode
}

// fault decides what happens to one request: in a bad mode, two of five go wrong.
func (f *faultyS3) fault() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode != "" && f.rand.IntN(5) < 2 {
		return f.mode
	}
	return ""
}

func newFaultyS3(t *testing.T) *faultyS3 {
	t.Helper()
	dir := t.TempDir()
	authority, err := ca.Open(filepath.Join(dir, "ca"), nil)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(dir, "s3.pem"), filepath.Join(dir, "s3.key")
	if err := authority.WriteServer(cert, key, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	backend := freePort(t)
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	serve(t, builtin.Config{Root: filepath.Join(dir, "data"), Address: backend, CertFile: cert, KeyFile: key, AccessKey: "tester", SecretKey: "only-for-this-test"})
	direct, err := s3store.New(s3store.Options{Endpoint: "https://" + backend, Bucket: "faulty", CA: authority.Certificate().Raw, AccessKey: "tester", SecretKey: "only-for-this-test"})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = direct.CreateBucket(context.Background()); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	f := &faultyS3{rand: rand.New(rand.NewPCG(seed, 1)), env: []string{"AWS_ACCESS_KEY_ID=tester", "AWS_SECRET_ACCESS_KEY=only-for-this-test"}}
	f.url = "s3://faulty/prefix?endpoint=https://" + f.serveProxy(t, authority, backend) + "&ca_file=" + url.QueryEscape(filepath.Join(dir, "ca", "ca.pem"))
	return f
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// serve runs the S3 server that the product ships.
func serve(t *testing.T, c builtin.Config) {
	t.Helper()
	cmd := exec.Command(filepath.Join(lab.Binaries(t), "openmigrate"), "serve-staging")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := json.NewEncoder(in).Encode(c); err != nil {
		t.Fatal(err)
	}
}

// serveProxy passes requests on, Host header and all, so that signatures hold.
func (f *faultyS3) serveProxy(t *testing.T, authority *ca.CA, backend string) string {
	t.Helper()
	target := &url.URL{Scheme: "https", Host: backend}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		Transport:    &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 16},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	cert, err := authority.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*cert}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serve(w, r, proxy) })}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

func (f *faultyS3) serve(w http.ResponseWriter, r *http.Request, proxy http.Handler) {
	switch f.fault() {
	case "500":
		http.Error(w, "<Error><Code>InternalError</Code></Error>", http.StatusInternalServerError)
	case "503":
		http.Error(w, "<Error><Code>SlowDown</Code></Error>", http.StatusServiceUnavailable)
	case "slow":
		time.Sleep(400 * time.Millisecond)
		proxy.ServeHTTP(w, r)
	case "lost answer": // the work is done, nobody hears of it
		proxy.ServeHTTP(discard{header: http.Header{}}, r)
		panic(http.ErrAbortHandler)
	case "half": // a body that stops in the middle, either way
		if r.Method == http.MethodPut {
			_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(&half{w}, r)
	case "never": // no answer until the connection dies
		time.Sleep(2 * time.Second)
		panic(http.ErrAbortHandler)
	default:
		proxy.ServeHTTP(w, r)
	}
}

// discard swallows an answer.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// half passes on half of the first write of a body, then breaks the connection.
type half struct{ http.ResponseWriter }

func (h *half) Write(b []byte) (int, error) {
	if len(b) > 1 {
		_, _ = h.ResponseWriter.Write(b[:len(b)/2])
		panic(http.ErrAbortHandler)
	}
	return h.ResponseWriter.Write(b)
}

// TestS3Misbehaves makes and restores restpoints while the S3 server answers two of five requests badly, in each way.
func TestS3Misbehaves(t *testing.T) {
	s3 := newFaultyS3(t)
	l := lab.NewWith(t, lab.Options{Env: s3.env, Args: []string{"--staging", s3.url}})
	disk := l.Path("disk.img")
	content := pattern(9<<20, 4)
	write := func() {
		t.Helper()
		if err := os.WriteFile(disk, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	l.StartAgent(l.Token("agent"), disk)
	l.StartHydrator(l.Token("node"))
	l.Eventually(time.Minute, "agent enrolled", func() error {
		var list []struct{ ID string }
		l.JSON(&list, "machines", "ls")
		if len(list) == 0 {
			return errors.New("no machine")
		}
		return nil
	})
	for i, mode := range []string{"500", "503", "slow", "half", "lost answer", "never"} {
		copy(content[i<<20:], pattern(700000, byte(10+i)))
		write()
		s3.set(mode)
		l.Eventually(3*time.Minute, "a restpoint in spite of "+mode, func() error {
			_, err := l.CLI("machines", "sync", "web1", "--wait", "--timeout", "100s")
			return err
		})
		to := l.Path("copy.img")
		l.Eventually(3*time.Minute, "an export in spite of "+mode, func() error {
			_, err := l.CLI("restpoints", "export", "web1/latest", "--disk", "0", "--to", to)
			return err
		})
		if b, err := os.ReadFile(to); err != nil || !bytes.Equal(b, content) {
			t.Fatalf("%s: the restpoint is not the disk: %d bytes, %v", mode, len(b), err)
		}
	}
	s3.set("")
	for _, op := range [][]string{{"staging", "gc"}, {"staging", "check", "--deep"}} {
		if out, err := l.CLI(op...); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(op, " "), err, out)
		}
	}
}
