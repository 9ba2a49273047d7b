package keyring

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/staging/memstore"
)

func open(t *testing.T, bucket staging.Store, dir string, o *Options) *Ring {
	t.Helper()
	r, err := Open(context.Background(), bucket, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func keys(t *testing.T, r *Ring) *format.Keys {
	t.Helper()
	k, err := r.Keys(context.Background(), r.Project())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSameKeysAfterARestart(t *testing.T) {
	bucket, dir := memstore.New(nil), t.TempDir()
	first := open(t, bucket, dir, nil)
	again := open(t, bucket, dir, nil)
	if !keys(t, first).Equal(keys(t, again)) || first.Project() != again.Project() || first.Bucket() != again.Bucket() {
		t.Error("a restart changed keys, project or bucket")
	}
	st, err := os.Stat(filepath.Join(dir, identityFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v; want 0600", st.Mode(), err)
	}
}

func TestForeignBucketsAreRefusedAndUntouched(t *testing.T) {
	ctx := context.Background()
	bucket, dir := memstore.New(nil), t.TempDir()
	open(t, bucket, dir, nil)
	puts := bucket.Puts()
	if _, err := Open(ctx, bucket, t.TempDir(), nil); !errors.Is(err, ErrForeign) {
		t.Errorf("another master opens the bucket: %v", err)
	}
	if _, err := Open(ctx, memstore.New(nil), dir, nil); !errors.Is(err, ErrForeign) {
		t.Errorf("a master takes an empty bucket for its own: %v", err)
	}
	full := memstore.New(nil)
	if err := full.Put(ctx, "packs/aa/bb", []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, full, t.TempDir(), nil); !errors.Is(err, ErrForeign) {
		t.Errorf("a bucket that holds packs without a marker is taken: %v", err)
	}
	if n := bucket.Puts(); n != puts {
		t.Errorf("a refused bucket was written to %d times", n-puts)
	}
}

func TestRecoveryKeyOpensALostMaster(t *testing.T) {
	ctx := context.Background()
	bucket := memstore.New(nil)
	r := open(t, bucket, t.TempDir(), nil)
	if r.HasRecovery() {
		t.Error("a new ring has a recovery key")
	}
	text, err := r.NewRecoveryKey(ctx, "safe")
	if err != nil || !r.HasRecovery() {
		t.Fatalf("make recovery key: %v, has one %v", err, r.HasRecovery())
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("# comment\n"+text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := ReadRecoveryKey(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	recovered := open(t, bucket, dir, &Options{Recovery: id})
	if !keys(t, recovered).Equal(keys(t, r)) {
		t.Error("the recovered keys are others")
	}
	if !keys(t, open(t, bucket, dir, nil)).Equal(keys(t, r)) {
		t.Error("the new master's own key does not open the bucket after the recovery")
	}
}

func TestDamagedObjects(t *testing.T) {
	ctx := context.Background()
	bucket, dir := memstore.New(nil), t.TempDir()
	r := open(t, bucket, dir, nil)
	saved := map[string][]byte{}
	for _, c := range []struct {
		name  string
		spoil func([]byte) []byte
		want  error
	}{
		{format.MarkerName, func(b []byte) []byte { b[4] = 7; return b }, format.ErrVersion},
		{format.MarkerName, func(b []byte) []byte { return b[:10] }, format.ErrCorrupt},
		{format.KeysName(r.Project()), func([]byte) []byte { return nil }, staging.ErrNotFound},
		{format.KeysName(r.Project()), func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, ErrKeys},
	} {
		bucket.Corrupt(c.name, func(b []byte) []byte { saved[c.name] = append([]byte(nil), b...); return c.spoil(b) })
		if _, err := Open(ctx, bucket, dir, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		bucket.Corrupt(c.name, func([]byte) []byte { return saved[c.name] })
	}
	open(t, bucket, dir, nil)
}
