package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// Requests counts requests by method.
type Requests map[string]int64

// Sum is all of them.
func (r Requests) Sum() (n int64) {
	for _, v := range r {
		n += v
	}
	return n
}

// Since is what came after an earlier count.
func (r Requests) Since(before Requests) Requests {
	d := Requests{}
	for method, n := range r {
		if n -= before[method]; n != 0 {
			d[method] = n
		}
	}
	return d
}

// counter passes requests on to a server unchanged, so that their signatures hold, and counts them.
type counter struct {
	server *http.Server
	url    string
	done   chan struct{}

	mu    sync.Mutex
	count Requests
}

func newCounter(ctx context.Context, target string, cert certificate) (*counter, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("count requests: %w", err)
	}
	authority, err := x509.ParseCertificate(cert.der)
	if err != nil {
		return nil, fmt.Errorf("count requests: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("count requests: %w", err)
	}
	c := &counter{url: "https://" + l.Addr().String(), done: make(chan struct{}), count: Requests{}}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 64, DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0), // the client sees 502
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
			r.Out.Host = r.In.Host // is signed
			if r.In.Header.Get("User-Agent") == "" {
				r.Out.Header.Set("User-Agent", "")
			}
		},
	}
	c.server = &http.Server{ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.count[r.Method]++
		c.mu.Unlock()
		proxy.ServeHTTP(w, r)
	})}
	go func() {
		defer close(c.done)
		_ = c.server.ServeTLS(l, cert.certFile, cert.keyFile) // ends with close
		transport.CloseIdleConnections()
	}()
	return c, nil
}

func (c *counter) requests() Requests {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.count)
}

func (c *counter) close() {
	_ = c.server.Close()
	<-c.done
}
