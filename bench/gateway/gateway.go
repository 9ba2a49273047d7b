// Package gateway runs the built-in staging server for benchmarks apart from a master, and counts the requests that reach it:
// all of them, whoever sends them. What passes through the counter is slower, so runs that are timed go to
// the server directly.
package gateway

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/openmigrate/openmigrate/bench/peers"
	"github.com/openmigrate/openmigrate/staging/builtin"
)

const bucket = "bench"

// Gateway is a running server. Close it. Any goroutine may use it.
type Gateway struct {
	Dir       string // where the server keeps objects
	Direct    string // URL of the server
	AccessKey string
	SecretKey string

	cert    certificate
	log     *os.File
	server  *builtin.Server
	counter *counter
}

// Start runs a server over the folder dir, which is made. args lead the running program to builtin.ServeFrom(stdin).
func Start(ctx context.Context, dir string, args ...string) (_ *Gateway, err error) {
	g := &Gateway{Dir: filepath.Join(dir, "objects"), AccessKey: rand.Text(), SecretKey: rand.Text()}
	if err := os.MkdirAll(g.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start staging for benchmarks: %w", err)
	}
	if g.cert, err = newCertificate(dir, time.Now()); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("start staging for benchmarks: %w", err)
	}
	defer func() {
		if err != nil {
			log.Close()
		}
	}()
	g.log = log
	g.server, err = builtin.Start(ctx, builtin.StartOptions{
		Config: builtin.Config{Root: g.Dir, CertFile: g.cert.certFile, KeyFile: g.cert.keyFile, AccessKey: g.AccessKey, SecretKey: g.SecretKey},
		Args:   args, CA: g.cert.der, Bucket: bucket, Log: log,
	})
	if err != nil {
		return nil, err
	}
	g.Direct = g.server.S3.Endpoint
	if g.counter, err = newCounter(ctx, g.Direct, g.cert); err != nil {
		g.server.Close()
		return nil, err
	}
	return g, nil
}

// Close ends the server.
func (g *Gateway) Close() {
	g.counter.close()
	g.server.Close()
	g.log.Close()
}

// Staging is what a master's --staging takes to send everything past the counter. The keys go into its environment.
func (g *Gateway) Staging() string {
	q := url.Values{"endpoint": {g.counter.url}, "ca_file": {g.cert.certFile}}
	return "s3://" + bucket + "?" + q.Encode()
}

// Environment holds the keys.
func (g *Gateway) Environment() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + g.AccessKey, "AWS_SECRET_ACCESS_KEY=" + g.SecretKey}
}

// Bucket is the same server for a peer, past no counter.
func (g *Gateway) Bucket(name string) peers.Bucket {
	return peers.Bucket{Endpoint: g.Direct, Name: name, CAFile: g.cert.certFile, AccessKey: g.AccessKey, SecretKey: g.SecretKey}
}

// Requests is how many there were so far.
func (g *Gateway) Requests() Requests { return g.counter.requests() }
