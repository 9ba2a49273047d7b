package builtin_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/builtin"
	"github.com/openmigrate/openmigrate/staging/s3store"
	"github.com/openmigrate/openmigrate/staging/storetest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve-staging" {
		if err := builtin.ServeFrom(context.Background(), os.Stdin); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == "own-staging" {
		os.Exit(ownStaging(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

// options are those of a server over a new directory.
func options(tb testing.TB) builtin.StartOptions {
	tb.Helper()
	dir := tb.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	o := builtin.StartOptions{Args: []string{"serve-staging"}, CA: der, Bucket: "project", Log: os.Stderr, Config: builtin.Config{
		Root: filepath.Join(dir, "root"), CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"),
		AccessKey: "test", SecretKey: "test-secret",
	}}
	for name, block := range map[string]*pem.Block{
		o.CertFile: {Type: "CERTIFICATE", Bytes: der}, o.KeyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Mkdir(o.Root, 0o700); err != nil {
		tb.Fatal(err)
	}
	return o
}

// start runs a server over a new directory.
func start(tb testing.TB) (*builtin.Server, *s3store.Store) {
	tb.Helper()
	srv, err := builtin.Start(tb.Context(), options(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(srv.Close)
	store, err := s3store.New(srv.S3)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(store.Close)
	return srv, store
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (staging.Store, *storetest.Options) {
		srv, store := start(t)
		u, err := url.Parse(srv.S3.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		return store, &storetest.Options{Hosts: []string{u.Host}, CA: srv.S3.CA}
	})
}

func TestProbe(t *testing.T) {
	_, store := start(t)
	got, err := store.Probe(t.Context())
	if want := (s3store.Capabilities{IfAbsent: true, IfAbsentStatus: 412, SignedChecksum: true, SignedSize: true}); err != nil || got != want {
		t.Errorf("probe: %+v, %v", got, err)
	}
}
