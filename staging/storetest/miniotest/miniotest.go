// Package miniotest runs MinIO, a server that OpenMigrate neither ships nor links, for tests of interoperation.
package miniotest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const module = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"

// Binary finds MinIO in $OPENMIGRATE_CACHE/bin or builds it there, which takes minutes once.
func Binary(tb testing.TB) string {
	tb.Helper()
	cache := os.Getenv("OPENMIGRATE_CACHE")
	if cache == "" {
		cache = "/var/cache/openmigrate"
	}
	bin := filepath.Join(cache, "bin")
	path := filepath.Join(bin, "minio")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.CommandContext(tb.Context(), "go", "install", module)
	cmd.Dir = tb.TempDir() // outside of our module
	cmd.Env = append(os.Environ(), "GOBIN="+bin, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build MinIO: %v\n%s", err, out)
	}
	return path
}

// Start runs MinIO at address with root's certificate and key ("public.crt", "private.key") in certs, until the test ends.
func Start(tb testing.TB, address, certs, access, secret string) {
	tb.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), Binary(tb), "server", "--quiet", "--address", address, "--certs-dir", certs, tb.TempDir())
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+access, "MINIO_ROOT_PASSWORD="+secret, "MINIO_BROWSER=off")
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // its exit tells nothing: it was killed
	})
}
