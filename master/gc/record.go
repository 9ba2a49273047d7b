package gc

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

const machinePrefix = "machines/"

// maxMasterKeys bounds how many masters a machine's record remembers.
const maxMasterKeys = 16

// MachineRecord is the object machines/<id>, sealed under the project's keys (format.SealJSON): what must be known of a machine to read its restpoints
// when nothing but the bucket is left.
type MachineRecord struct {
	ID         string    `json:"id"`
	Project    string    `json:"project"`
	Name       string    `json:"name"`
	SigningKey []byte    `json:"signing_key"` // Ed25519 public key of the agent
	MasterKey  []byte    `json:"master_key"`  // Ed25519 public key of the master that countersigns
	Created    time.Time `json:"created"`
	Revoked    bool      `json:"revoked,omitempty"`
	// EarlierMasterKeys are of masters before this one, whose restpoints may not all have been countersigned again.
	EarlierMasterKeys [][]byte `json:"earlier_master_keys,omitempty"`
}

// MachineObject is the name of a machine's record.
func MachineObject(id string) string { return machinePrefix + id }

func (m *MachineRecord) check(id string) error {
	if m.ID != id || format.CheckID(id) != nil || format.CheckID(m.Project) != nil {
		return fmt.Errorf("%w: record of machine %.64q of project %.64q", format.ErrCorrupt, m.ID, m.Project)
	}
	keys := append([][]byte{m.SigningKey, m.MasterKey}, m.EarlierMasterKeys...)
	for _, k := range keys {
		if len(k) != ed25519.PublicKeySize || len(keys) > maxMasterKeys+2 {
			return fmt.Errorf("%w: keys of machine %s", format.ErrCorrupt, id)
		}
	}
	return nil
}

// masterKeys are those that may have countersigned the machine's restpoints, present first.
func (m *MachineRecord) masterKeys(present ed25519.PublicKey) []ed25519.PublicKey {
	keys := []ed25519.PublicKey{present, m.MasterKey}
	for _, k := range m.EarlierMasterKeys {
		keys = append(keys, k)
	}
	return keys
}

// PublishMachine writes a machine's record if it is not there as it should be. The master calls it when a machine was enrolled or revoked, before it answers.
func (g *Collector) PublishMachine(ctx context.Context, id string) error {
	m, err := g.cat.Machine(ctx, id)
	if err != nil {
		return err
	}
	keys, err := g.keys.Keys(ctx, m.Project)
	if err != nil {
		return err
	}
	want := MachineRecord{
		ID: m.ID, Project: m.Project, Name: m.Name, SigningKey: m.SigningKey, MasterKey: g.cat.MasterKey(),
		Created: m.Created.UTC(), Revoked: m.Revoked,
	}
	name := MachineObject(m.ID)
	was, err := g.machineRecord(ctx, keys, m.ID)
	switch {
	case err == nil:
		want.EarlierMasterKeys = was.EarlierMasterKeys
		if !bytes.Equal(was.MasterKey, want.MasterKey) {
			all := append([][]byte{was.MasterKey}, was.EarlierMasterKeys...)
			want.EarlierMasterKeys = all[:min(len(all), maxMasterKeys)]
		}
		if reflect.DeepEqual(*was, want) {
			return nil
		}
	case !isDamage(err):
		return err
	}
	object, err := format.SealJSON(keys, name, &want)
	if err != nil {
		return err
	}
	if err := g.bucket.Put(ctx, name, object, nil); err != nil {
		return fmt.Errorf("publish machine %s: %w", m.ID, err)
	}
	return nil
}

// PublishMachines does so for all machines. The master calls it when it starts, to mend what it could not do when it stopped.
func (g *Collector) PublishMachines(ctx context.Context) error {
	return g.eachMachine(ctx, func(m *catalog.Machine) error { return g.PublishMachine(ctx, m.ID) })
}

// RetireMachine deletes the record of a machine that was removed, so that a rebuild does not bring it back. It is idempotent.
func (g *Collector) RetireMachine(ctx context.Context, id string) error {
	if err := format.CheckID(id); err != nil {
		return err
	}
	if _, err := g.cat.Machine(ctx, id); !wire.HasCode(err, wire.CodeNotFound) {
		return errors.Join(err, wire.NewProblem(409, wire.CodeConflict, "machine %s is not removed", id))
	}
	if err := g.bucket.Delete(ctx, MachineObject(id)); err != nil {
		return fmt.Errorf("retire machine %s: %w", id, err)
	}
	return nil
}

func (g *Collector) machineRecord(ctx context.Context, keys *format.Keys, id string) (*MachineRecord, error) {
	name := MachineObject(id)
	b, err := readObject(ctx, g.bucket, name, format.MaxRecord)
	if err != nil {
		return nil, err
	}
	m := new(MachineRecord)
	if err := format.OpenJSON(keys, name, b, m); err != nil {
		return nil, err
	}
	return m, m.check(id)
}

// findRecord opens a machine's record with the keys of whichever project it belongs to.
func (g *Collector) findRecord(ctx context.Context, keys map[string]*format.Keys, id string) (*MachineRecord, error) {
	err := fmt.Errorf("%w: there is no project", format.ErrWrongKey)
	for _, k := range keys {
		var m *MachineRecord
		if m, err = g.machineRecord(ctx, k, id); errors.Is(err, format.ErrWrongKey) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if own := keys[m.Project]; own == nil || own.ID() != k.ID() {
			return nil, fmt.Errorf("%w: it is of project %.64q, its keys are another's", format.ErrCorrupt, m.Project)
		}
		return m, nil
	}
	return nil, err
}

func (g *Collector) eachMachine(ctx context.Context, fn func(*catalog.Machine) error) error {
	projects, err := g.cat.Projects(ctx)
	if err != nil {
		return err
	}
	for i := range projects {
		all, err := g.cat.Machines(ctx, projects[i].ID)
		if err != nil {
			return err
		}
		for j := range all {
			if err := fn(&all[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

// listMachines returns the ids of all machines that the bucket has a record of, and calls stray for objects that are none.
func (g *Collector) listMachines(ctx context.Context, stray func(name string)) ([]string, error) {
	var ids []string
	err := g.bucket.List(ctx, machinePrefix, "", func(o staging.Info) error {
		id := strings.TrimPrefix(o.Name, machinePrefix)
		if format.CheckID(id) != nil {
			stray(o.Name)
			return nil
		}
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list machines in staging: %w", err)
	}
	return ids, nil
}
