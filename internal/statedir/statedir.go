// Package statedir is what an agent or node keeps between its starts, in a directory of its own: identity, generation
// counter, and small files of its own.
//
// Invariants. One process at a time uses a directory. Every file is replaced as a whole and durably before anything depends on
// it, so that a kill or a power cut at any moment leaves the old content or the new. The generation that NextGeneration returns
// has never been returned before by this directory. Files are readable by their owner only.
package statedir

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/openmigrate/openmigrate/internal/durable"
)

// ErrLocked: another process uses the directory.
var ErrLocked = errors.New("state directory is used by another process")

// Dir is an open state directory. Close it. Any number of goroutines may use it.
type Dir struct {
	path       string
	lock       *os.File
	generation atomic.Uint64
}

// Open locks a directory, and makes it if need be. ErrLocked.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s; stop it, or give each its own --state-dir", ErrLocked, path)
		}
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	return &Dir{path: path, lock: lock}, nil
}

// Close lets the directory go.
func (d *Dir) Close() error { return d.lock.Close() }

// Path is a path below the directory.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Identity is who the agent or node is. It is written once at enrolment, and again with each renewed certificate.
type Identity struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Project     string   `json:"project"`
	Master      string   `json:"master"`                // URL
	CA          []byte   `json:"ca"`                    // DER
	MasterKey   []byte   `json:"master_key"`            // Ed25519, countersigns restpoints
	Certificate [][]byte `json:"certificate"`           // DER, leaf first
	Key         []byte   `json:"key"`                   // PKCS #8, of the certificate
	SigningKey  []byte   `json:"signing_key,omitempty"` // Ed25519 seed, signs restpoints
}

// Identity reads the identity; nil when the directory has none yet.
func (d *Dir) Identity() (*Identity, error) {
	id := new(Identity)
	if ok, err := d.Read("identity.json", id); err != nil || !ok {
		return nil, err
	}
	return id, nil
}

// SetIdentity replaces the identity.
func (d *Dir) SetIdentity(id *Identity) error { return d.Write("identity.json", id) }

// NextGeneration counts this start of the process, durably.
func (d *Dir) NextGeneration() (uint64, error) {
	var g struct {
		Generation uint64 `json:"generation"`
	}
	if _, err := d.Read("generation.json", &g); err != nil {
		return 0, err
	}
	g.Generation++
	if err := d.Write("generation.json", &g); err != nil {
		return 0, err
	}
	d.generation.Store(g.Generation)
	return g.Generation, nil
}

// Generation is what NextGeneration returned last.
func (d *Dir) Generation() uint64 { return d.generation.Load() }

// Read decodes a JSON file; false when there is none.
func (d *Dir) Read(name string, v any) (bool, error) {
	b, err := os.ReadFile(d.Path(name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", d.Path(name), err)
	}
	return true, nil
}

// Write replaces a JSON file durably. Readable by the owner only.
func (d *Dir) Write(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return durable.WriteFile(d.Path(name), b, 0o600)
}
