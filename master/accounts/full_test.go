package accounts

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
)

// TestFullDisk: credentials are good also when their use cannot be written down, or nobody could make room.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	var err error
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "db"), &boltstore.Options{MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	w.db = db
	w.restart()
	w.admin("ann")
	l := w.login("ann", good)
	token, _ := w.token(nil, Token{Project: "default", Role: RoleViewer}, 0)
	for i := 0; err == nil; i++ {
		err = db.Update(t.Context(), func(tx store.Writer) error { return tx.Put("fill", []byte{byte(i), byte(i >> 8)}, make([]byte, 3000)) })
	}
	if !errors.Is(err, store.ErrFull) {
		t.Fatal(err)
	}
	w.clock.Advance(30 * time.Minute)
	w.session(l)
	w.clock.Advance(time.Hour)
	if _, err := w.Bearer(t.Context(), token); err != nil {
		t.Error(err)
	}
}
