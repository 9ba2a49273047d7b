package builtin

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
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
	d := durable{Posix: store, put: store, dirs: new(folders), sync: func(f *os.File) error {
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
		synced, *d.dirs = nil, folders{}
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

// TestPutSyncsNewFolders: only what may be new is synced beside the data, the object and its folder; a delete makes folders new again, also
// one that began before the folder was synced.
func TestPutSyncsNewFolders(t *testing.T) {
	root := t.TempDir()
	t.Chdir(root)
	if err := os.Mkdir("bucket", 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := newDurable(root)
	if err != nil {
		t.Fatal(err)
	}
	var synced []string
	d.sync = func(f *os.File) error {
		synced = append(synced, f.Name())
		return nil
	}
	bucket := "bucket"
	put := func(key string, want ...string) {
		t.Helper()
		synced = nil
		size := int64(4)
		if _, err := d.PutObject(t.Context(), s3response.PutObjectInput{Bucket: &bucket, Key: &key, ContentLength: &size, Body: strings.NewReader("body")}); err != nil {
			t.Fatal(err)
		}
		if want = append([]string{"bucket/" + key}, want...); len(synced) == 0 || !slices.Equal(synced[1:], want) {
			t.Errorf("put %s synced %q, want the data and then %q", key, synced, want)
		}
	}
	remove := func(key string) {
		t.Helper()
		if _, err := d.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
			t.Fatal(err)
		}
	}
	put("a/b/1", "bucket/a/b", "bucket/a", "bucket", ".")
	put("a/b/2", "bucket/a/b")
	put("a/c/1", "bucket/a/c", "bucket/a") // a is durable, the entry of c in it is not
	put("a/c/2", "bucket/a/c")
	remove("a/c/1")
	remove("a/c/2")
	if _, err := os.Stat("bucket/a/c"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the empty folder stays: %v", err)
	}
	put("a/c/3", "bucket/a/c", "bucket/a", "bucket", ".")
	put("a/b/3", "bucket/a/b")

	done := d.dirs.deleting("bucket/a/d")
	put("a/d/1", "bucket/a/d", "bucket/a", "bucket", ".")
	put("a/d/2", "bucket/a/d", "bucket/a", "bucket", ".") // nothing is remembered beside a delete
	done()
	remember := d.dirs.walk()
	d.dirs.deleting("bucket/a/d")()
	remember([]string{"bucket/a/d"}) // a delete came and went in between
	put("a/d/3", "bucket/a/d", "bucket/a", "bucket", ".")
	put("a/d/4", "bucket/a/d")
}
