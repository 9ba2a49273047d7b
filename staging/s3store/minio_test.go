package s3store_test

import (
	"context"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"crypto/x509"
	"encoding/pem"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/s3store"
	"github.com/openmigrate/openmigrate/staging/storetest"
	"github.com/openmigrate/openmigrate/staging/storetest/miniotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMinIO(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (staging.Store, *storetest.Options) {
		web := httptest.NewTLSServer(nil) // for its certificate and a free port
		cert, address := web.TLS.Certificates[0], web.Listener.Addr().String()
		web.Close()
		if _, _, err := net.SplitHostPort(address); err != nil {
			t.Fatal(err)
		}
		key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		certs := t.TempDir()
		for name, b := range map[string]*pem.Block{
			"public.crt": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "private.key": {Type: "PRIVATE KEY", Bytes: key},
		} {
			if err := os.WriteFile(filepath.Join(certs, name), pem.EncodeToMemory(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		miniotest.Start(t, address, certs, "testtest", "test-secret")
		s, err := s3store.New(s3store.Options{Endpoint: "https://" + address, Bucket: "project", Prefix: "p", CA: cert.Certificate[0],
			AccessKey: "testtest", SecretKey: "test-secret"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		createBucket(t, s)
		return s, &storetest.Options{Hosts: []string{address}, CA: cert.Certificate[0]}
	})
}

// TestMinIOWithoutTLS is what a developer has on his machine.
func TestMinIOWithoutTLS(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (staging.Store, *storetest.Options) {
		web := httptest.NewServer(nil) // for a free port
		address := web.Listener.Addr().String()
		web.Close()
		miniotest.Start(t, address, t.TempDir(), "testtest", "test-secret")
		s, err := s3store.New(s3store.Options{Endpoint: "http://" + address, Bucket: "project", AccessKey: "testtest", SecretKey: "test-secret"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		createBucket(t, s)
		return s, &storetest.Options{Hosts: []string{address}, Objects: 50, LargeSize: 1 << 20}
	})
}

// createBucket waits until the server answers.
func createBucket(t *testing.T, s *s3store.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for s.CreateBucket(ctx) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("MinIO does not answer")
		}
	}
}
