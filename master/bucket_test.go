package master

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/builtin"
)

// TestMain is also built-in staging.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve-staging" {
		if err := builtin.ServeFrom(context.Background(), os.Stdin); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestStagingForOthers: built-in staging of a master that listens on every address is told of under the master's name, which this machine cannot
// resolve, has a certificate for it, takes what was signed for it, and keeps its port.
func TestStagingForOthers(t *testing.T) {
	const name = "master.invalid"
	dir := t.TempDir()
	for _, sub := range []string{"/keys", "/ca"} {
		if err := os.Mkdir(dir+sub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	authority, err := ca.Open(dir+"/ca", clock.Real{})
	if err != nil {
		t.Fatal(err)
	}
	var host string
	for _, listen := range []string{"0.0.0.0:0", "127.0.0.1:0"} {
		b, err := openBucket(t.Context(), Config{DataDir: dir, Listen: listen, Names: []string{name}, ServeStaging: []string{"serve-staging"},
			Log: slog.New(slog.DiscardHandler)}, authority)
		if err != nil {
			t.Fatal(err)
		}
		defer b.close()
		_, port, err := net.SplitHostPort(b.host)
		if err != nil || b.host != net.JoinHostPort(name, port) || host != "" && b.host != host {
			t.Errorf("agents are told of %s, before of %q: %v", b.host, host, err)
		}
		host = b.host
		roots := x509.NewCertPool()
		roots.AddCert(authority.Certificate())
		client := &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
			},
		}}
		defer client.CloseIdleConnections()
		body := []byte(listen)
		signed, err := b.SignPut(t.Context(), "from-afar/"+port+listen[:3], staging.SignPut{Size: int64(len(body)), CRC32C: staging.Checksum(body), Valid: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPut, signed.URL, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header = signed.Header.Clone()
		q.Header.Del("Content-Length") // the client's own
		resp, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("put: %s", resp.Status)
		}
		b.close()
	}
}

func TestStagingListen(t *testing.T) {
	for _, c := range []struct{ listen, staging, kept, want string }{
		{"127.0.0.1:7443", "", "", "127.0.0.1:0"},
		{"127.0.0.1:7443", "", "127.0.0.1:9000", "127.0.0.1:9000"},
		{":7443", "", "127.0.0.1:9000", ":9000"},
		{"[::]:7443", "", "", "[::]:0"},
		{"127.0.0.1:7443", "0.0.0.0:7444", "127.0.0.1:9000", "0.0.0.0:7444"},
		{"127.0.0.1:7443", "10.0.0.1:0", "127.0.0.1:9000", "10.0.0.1:9000"},
	} {
		if got, err := stagingListen(Config{Listen: c.listen, StagingListen: c.staging}, c.kept); err != nil || got != c.want {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
}
