package builtin

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3response"
)

// TestPutSyncs: before a PUT returns, the data are synced under no name or a temporary one, then the name and every directory
// above it; and a sync that fails fails the PUT.
func TestPutSyncs(t *testing.T) {
	root := t.TempDir()
	t.Chdir(root) // posix.New changes it; this restores it
	if err := os.Mkdir("bucket", 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := posix.New(root, meta.XattrMeta{}, posix.PosixOpts{DataIntegrityEtag: true})
	if err != nil {
		t.Fatal(err)
	}
	var synced []string
	failAt := -1
	errSync := errors.New("sync failed on purpose")
	d := durable{Posix: store, put: store, sync: func(f *os.File) error {
		if _, err := os.Stat("bucket/a/b/c"); len(synced) == 0 && err == nil {
			t.Error("the object had its name before its data were synced")
		}
		synced = append(synced, f.Name())
		if len(synced)-1 == failAt {
			return errSync
		}
		return nil
	}}
	put := func() error {
		synced = nil
		if err := os.RemoveAll("bucket/a"); err != nil {
			t.Fatal(err)
		}
		bucket, key, body, size := "bucket", "a/b/c", "body", int64(4)
		_, err := d.PutObject(t.Context(), s3response.PutObjectInput{Bucket: &bucket, Key: &key, ContentLength: &size, Body: strings.NewReader(body)})
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	want := []string{"bucket/a/b/c", "bucket/a/b", "bucket/a", "bucket", "."}
	if len(synced) != len(want)+1 || !slices.Equal(synced[1:], want) {
		t.Fatalf("synced %q, want the data and then %q", synced, want)
	}
	for failAt = range len(want) + 1 {
		if err := put(); err == nil {
			t.Errorf("put was acknowledged though sync %d failed", failAt)
		}
	}
}
