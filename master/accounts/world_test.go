package accounts

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	good    = "seven green boats sail"
	another = "eleven red lanterns hang"
)

type world struct {
	*Service
	t     *testing.T
	db    store.Store
	clock *clock.Fake
}

// quick hashes as fast as argon2id can.
var quick = HashParams{Time: 1, Memory: 64, Threads: 1}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	var err error
	if w.db, err = boltstore.Open(filepath.Join(t.TempDir(), "db"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.restart()
	return w
}

func (w *world) restart() {
	w.t.Helper()
	var err error
	if w.Service, err = Open(w.t.Context(), w.db, w.clock, &Options{Hash: quick}); err != nil {
		w.t.Fatal(err)
	}
}

// user makes a user with the good password.
func (w *world) user(name string, of map[string]string) *User {
	w.t.Helper()
	u, err := w.CreateUser(w.t.Context(), name, "", of)
	if err != nil {
		w.t.Fatal(err)
	}
	text, _, err := w.NewLink(w.t.Context(), u.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	if u, err = w.UseLink(w.t.Context(), text, "", good); err != nil {
		w.t.Fatal(err)
	}
	return u
}

func (w *world) admin(name string) *User {
	return w.user(name, map[string]string{AllProjects: RoleAdmin})
}

func (w *world) login(name, password string) *Login {
	w.t.Helper()
	l, err := w.Login(w.t.Context(), Attempt{Name: name, Password: password, Address: "192.0.2.1:1234", Agent: "test"})
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func (w *world) session(l *Login) *Principal {
	w.t.Helper()
	p, err := w.Session(w.t.Context(), l.Cookie)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) token(by *Principal, t Token, valid time.Duration) (string, *Principal) {
	w.t.Helper()
	if t.Name == "" {
		t.Name = "test"
	}
	_, text, err := w.NewToken(w.t.Context(), by, t, valid)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := w.Bearer(w.t.Context(), text)
	if err != nil {
		w.t.Fatal(err)
	}
	return text, p
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if !wire.HasCode(err, code) {
		t.Errorf("%s: got %v, want code %s", what, err, code)
	}
}

// torn waits until a context ends, and returns why.
func torn(t *testing.T, ctx context.Context) error {
	t.Helper()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
		return nil
	}
}
