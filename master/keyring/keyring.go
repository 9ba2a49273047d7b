// Package keyring holds a project's keys for the master and settles whose bucket it is.
//
// The bucket holds a marker (bucket id, project id) and the project's keys, wrapped for each way of opening them: the
// master's key file, and offline recovery keys. The data directory holds the key file and what the marker said when this
// master first saw the bucket. Open makes both on an empty bucket and refuses any other mismatch: a bucket of another project is
// never written to. A Ring may be used by any number of goroutines.
package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Files below the master's data directory.
const (
	identityFile = "keys/master.age" // age identity that opens the keys object
	bucketFile   = "keys/bucket.json"
)

// maxObject bounds what is read of a marker or keys object, in bytes.
const maxObject = 1 << 20

var (
	// ErrForeign: the bucket belongs to another project, or holds something else.
	ErrForeign = errors.New("staging bucket belongs to something else")
	// ErrKeys: the bucket is this project's, but the keys at hand do not open its keys object.
	ErrKeys = errors.New("project keys cannot be opened")
)

// Ring is one project's keys and its bucket's marker.
type Ring struct {
	bucket  staging.Store
	marker  format.Marker
	keys    *format.Keys
	mu      sync.Mutex
	wrapped []byte // keys object; guarded by mu
}

// Options change Open.
type Options struct {
	Clock    clock.Clock
	Recovery age.Identity // opens the keys object when the master's own key file is lost
}

// Open reads a bucket's marker and keys, or makes both on an empty bucket.
func Open(ctx context.Context, bucket staging.Store, dir string, o *Options) (*Ring, error) {
	if o == nil {
		o = &Options{}
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	own, err := identity(filepath.Join(dir, identityFile))
	if err != nil {
		return nil, err
	}
	r := &Ring{bucket: bucket}
	switch b, err := read(ctx, bucket, format.MarkerName); {
	case errors.Is(err, staging.ErrNotFound):
		err = r.create(ctx, dir, own, o)
		return r, err
	case err != nil:
		return nil, fmt.Errorf("read staging bucket: %w", err)
	default:
		m, keyID, err := format.DecodeMarker(b)
		if err != nil {
			return nil, fmt.Errorf("staging bucket's marker: %w", err)
		}
		r.marker = *m
		return r, r.open(ctx, dir, own, keyID, o)
	}
}

// open unwraps the keys of a bucket that has a marker.
func (r *Ring) open(ctx context.Context, dir string, own *age.X25519Identity, keyID format.KeyID, o *Options) error {
	known, err := knownBucket(dir)
	if err != nil {
		return err
	}
	if known != nil && (known.Bucket != r.marker.Bucket || known.Project != r.marker.Project) {
		return fmt.Errorf("%w: it holds project %s, this master's is %s; give the right bucket or an empty prefix of it",
			ErrForeign, r.marker.Project, known.Project)
	}
	if r.wrapped, err = read(ctx, r.bucket, format.KeysName(r.marker.Project)); err != nil {
		return fmt.Errorf("read project keys from staging: %w", err)
	}
	ids := []age.Identity{own}
	if o.Recovery != nil {
		ids = append(ids, o.Recovery)
	}
	if r.keys, err = format.UnwrapKeys(r.wrapped, r.marker.Project, ids...); err != nil {
		if known == nil {
			return fmt.Errorf("%w: it holds project %s of another master; start with that master's --data-dir, or give --recovery-key FILE: %w",
				ErrForeign, r.marker.Project, err)
		}
		return fmt.Errorf("%w: put %s back from a backup, or give --recovery-key FILE: %w", ErrKeys, filepath.Join(dir, identityFile), err)
	}
	if r.keys.ID() != keyID {
		return fmt.Errorf("%w: its marker names other keys than its keys object holds", ErrForeign)
	}
	if o.Recovery != nil { // from now on the master's own key opens it, too
		if err := r.AddSlot(ctx, format.Slot{Kind: format.SlotLocal, Hint: "master", Recipient: own.Recipient()}); err != nil {
			return err
		}
	}
	return writeJSON(filepath.Join(dir, bucketFile), &r.marker)
}

// create puts keys, then the marker, into an empty bucket. Two masters that race for it: one wins, the other is refused.
func (r *Ring) create(ctx context.Context, dir string, own *age.X25519Identity, o *Options) error {
	if known, err := knownBucket(dir); err != nil {
		return err
	} else if known != nil {
		return fmt.Errorf("%w: this master's bucket has a marker for project %s and this one has none; is the --staging URL right?", ErrForeign, known.Project)
	}
	for _, prefix := range []string{"packs/", "restpoints/"} {
		err := r.bucket.List(ctx, prefix, "", func(i staging.Info) error {
			return fmt.Errorf("%w: no marker, but %s; give an empty bucket or prefix", ErrForeign, i.Name)
		})
		if err != nil {
			return err
		}
	}
	r.keys = format.NewKeys()
	r.marker = format.Marker{Bucket: randomID(), Project: randomID(), Created: o.Clock.Now()}
	var err error
	if r.wrapped, err = format.WrapKeys(r.marker.Project, r.keys,
		[]format.Slot{{Kind: format.SlotLocal, Hint: "master", Recipient: own.Recipient()}}); err != nil {
		return err
	}
	if err := r.bucket.Put(ctx, format.KeysName(r.marker.Project), r.wrapped, &staging.PutOptions{IfAbsent: true}); err != nil {
		return fmt.Errorf("store project keys in staging: %w", err)
	}
	marker, err := format.EncodeMarker(&r.marker, r.keys.ID())
	if err != nil {
		return err
	}
	if err := r.bucket.Put(ctx, format.MarkerName, marker, &staging.PutOptions{IfAbsent: true}); err != nil {
		return fmt.Errorf("mark staging bucket: %w", err)
	}
	return writeJSON(filepath.Join(dir, bucketFile), &r.marker)
}

// Project is the id of the project that the bucket belongs to.
func (r *Ring) Project() string { return r.marker.Project }

// Bucket is the bucket's id.
func (r *Ring) Bucket() string { return r.marker.Bucket }

// Keys returns the project's keys. A bucket is one project's, whatever the master calls it.
func (r *Ring) Keys(context.Context, string) (*format.Keys, error) { return r.keys, nil }

// HasRecovery reports whether an offline recovery key can open the keys. Without one, a lost data directory is a lost bucket.
func (r *Ring) HasRecovery() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	slots, err := format.ListSlots(r.wrapped)
	for _, s := range slots {
		if s.Kind != format.SlotLocal {
			return err == nil
		}
	}
	return false
}

// AddSlot adds a way of opening the keys and stores them.
func (r *Ring) AddSlot(ctx context.Context, s format.Slot) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	wrapped, err := format.AddSlot(r.wrapped, r.marker.Project, r.keys, s)
	if err != nil {
		return err
	}
	if err := r.bucket.Put(ctx, format.KeysName(r.marker.Project), wrapped, nil); err != nil {
		return fmt.Errorf("store project keys in staging: %w", err)
	}
	r.wrapped = wrapped
	return nil
}

// NewRecoveryKey makes an offline recovery key, adds it, and returns its secret text, which is kept nowhere else.
func (r *Ring) NewRecoveryKey(ctx context.Context, hint string) (string, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", fmt.Errorf("make recovery key: %w", err)
	}
	if err := r.AddSlot(ctx, format.Slot{Kind: format.SlotRecovery, Hint: hint, Recipient: id.Recipient()}); err != nil {
		return "", err
	}
	return id.String(), nil
}

// ReadRecoveryKey reads the file that the operator saved a recovery key in.
func ReadRecoveryKey(name string) (age.Identity, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read recovery key: %w", err)
	}
	defer f.Close()
	ids, err := age.ParseIdentities(io.LimitReader(f, 64<<10))
	if err != nil || len(ids) == 0 {
		return nil, fmt.Errorf("read recovery key: %s holds no age identity", name)
	}
	return ids[0], nil
}

func read(ctx context.Context, bucket staging.Store, name string) ([]byte, error) {
	body, err := bucket.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(io.LimitReader(body, maxObject))
}

// identity reads the master's age identity, or makes it.
func identity(name string) (*age.X25519Identity, error) {
	b, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", name, err)
		}
		return id, writeFile(name, []byte(id.String()+"\n"))
	case err != nil:
		return nil, fmt.Errorf("read master key file: %w", err)
	}
	id, err := age.ParseX25519Identity(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not an age identity", ErrKeys, name)
	}
	return id, nil
}

func knownBucket(dir string) (*format.Marker, error) {
	b, err := os.ReadFile(filepath.Join(dir, bucketFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what bucket this master has: %w", err)
	}
	m := new(format.Marker)
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(m); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, bucketFile), err)
	}
	return m, nil
}

func writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(name, append(b, '\n'))
}

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

func writeFile(name string, b []byte) error { return durable.WriteFile(name, b, 0o600) }
