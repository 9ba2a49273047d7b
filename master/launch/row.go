package launch

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// Tables. DESIGN.md lists what is in them.
const (
	tableLaunches  = "launches"           // launch → row
	tableOrder     = "launch_order"       // number u64 → launch, in order of creation
	tableActive    = "launches_active"    // launch that is not over → active
	tableConsoles  = "launch_consoles"    // launch → the last of its console that was kept
	tableScreens   = "launch_screenshots" // launch → PNG
	tableReports   = "launch_reports"     // launch → report of its conversion, JSON
	tableTemplates = "launch_templates"   // machine → wire.LaunchTemplate
	tableHistory   = "launch_history"     // machine → history
	tableWarm      = "launch_warm"        // machine → warm
	tableMeta      = "launch_meta"        // name → what it says
)

// Keys of tableMeta.
var (
	metaNumber = []byte("number")
	metaSystem = []byte("system")
)

// row is a launch. The engine is the only one who moves State; others write down wishes (Revert, Finalize) and calls home.
type row struct {
	ID          string              `json:"id"`
	Number      uint64              `json:"number"` // order of creation
	Kind        string              `json:"kind"`
	Project     string              `json:"project"`
	Machine     string              `json:"machine"`
	MachineName string              `json:"machine_name"`
	By          string              `json:"by"`
	Template    wire.LaunchTemplate `json:"template"` // filled in: see plan
	Plan        plan                `json:"plan"`
	Provider    string              `json:"provider"`
	StopSource  bool                `json:"stop_source,omitempty"`
	Keep        bool                `json:"keep,omitempty"`
	HoldTimeout time.Duration       `json:"hold_timeout,omitempty"`
	Sync        bool                `json:"sync,omitempty"`      // a cutover that makes its own restpoint
	Base        string              `json:"base,omitempty"`      // with Sync: the newest restpoint when it was asked for, by which it was planned
	Restpoint   string              `json:"restpoint,omitempty"` // that is brought up; empty: not known yet

	State    string            `json:"state"`
	Steps    []wire.LaunchStep `json:"steps"`
	Log      []wire.LaunchLine `json:"log,omitempty"`
	Created  time.Time         `json:"created"`
	Ended    time.Time         `json:"ended,omitzero"`
	Revert   string            `json:"revert,omitempty"`   // who asked for it
	Finalize string            `json:"finalize,omitempty"` // who asked for it

	Data      map[string]int64      `json:"data,omitempty"` // by id of a disk: bytes that it holds, as a node measured; of Base, with Sync
	Disks     []disk                `json:"disks,omitempty"`
	Warm      bool                  `json:"warm,omitempty"`      // from standing volumes
	Views     []wire.View           `json:"views,omitempty"`     // instant: what the serve job shows
	ServedBy  int                   `json:"served_by,omitempty"` // attempt of that job that shows it
	Filled    bool                  `json:"filled,omitempty"`
	Instance  string                `json:"instance,omitempty"`
	Started   time.Time             `json:"started,omitzero"` // when the instance ran
	Endpoints []wire.LaunchEndpoint `json:"endpoints,omitempty"`
	Checks    []wire.LaunchOutcome  `json:"checks,omitempty"`
	Secret    string                `json:"secret,omitempty"` // of the call home; gone when the launch is over
	CallHome  *wire.CallHome        `json:"call_home,omitempty"`
	Ran       time.Time             `json:"ran,omitzero"` // when it was running
	Took      time.Duration         `json:"took,omitempty"`
	Forecast  time.Duration         `json:"forecast,omitempty"`
	Deadline  time.Time             `json:"deadline,omitzero"`
	Held      bool                  `json:"held,omitempty"` // the machine's assignment may have our hold in it
	Source    string                `json:"source,omitempty"`
	Failure   *wire.LaunchFailure   `json:"failure,omitempty"`
	Kept      bool                  `json:"kept,omitempty"` // failed, and what was made is still there
	Screen    bool                  `json:"screen,omitempty"`
}

// disk is one disk of a launch, in the order of the restpoint's.
type disk struct {
	ID       string `json:"id"`
	Size     int64  `json:"size"`               // bytes, at the source
	Volume   string `json:"volume,omitempty"`   // id at the provider
	Hydrated bool   `json:"hydrated,omitempty"` // the volume, or with Warm the standing one, holds the restpoint
	Snapshot string `json:"snapshot,omitempty"` // of Volume, where instances are made from snapshots
	// CloneSnapshot is of the standing volume, where clones are made from snapshots.
	CloneSnapshot string `json:"clone_snapshot,omitempty"`
}

// active is what is asked of launches that are not over.
type active struct {
	Machine string `json:"machine"`
	Kind    string `json:"kind"`
}

// history is what is remembered of a machine's launches when their rows are gone.
type history struct {
	Took       map[string]time.Duration `json:"took,omitempty"`    // by kind, and by kind-instant: of the last that ran
	Tested     string                   `json:"tested,omitempty"`  // the last test that ran
	Failed     string                   `json:"failed,omitempty"`  // the last test, if it failed
	Cutover    string                   `json:"cutover,omitempty"` // the last
	CutoverEnd string                   `json:"cutover_end,omitempty"`
	Test       *wire.TestEnd            `json:"test,omitempty"` // the last that has come to something
}

// over reports whether the engine is done with the launch for good, unless somebody reverts what was kept.
func (r *row) over() bool { return isOver(r.State) }

func isOver(state string) bool {
	return state == wire.LaunchReverted || state == wire.LaunchFailed || state == wire.LaunchFinalized
}

// owns reports whether something at the provider may belong to the launch rightfully.
func (r *row) owns() bool { return !r.over() || r.Kept || r.State == wire.LaunchFinalized }

// token is the client token for one thing of a launch: the same after any crash, and never used for two things.
func (r *row) token(thing string) string { return r.ID + "-" + thing }

func (r *row) numbered(thing string, n int) string { return fmt.Sprintf("%s-%s%d", r.ID, thing, n) }

// meta is what everything that is made for the launch carries.
func (r *row) meta(system, token string, n int) providers.Meta {
	name := "openmigrate " + r.Kind + " of " + r.MachineName
	if n >= 0 {
		name = fmt.Sprintf("%s, disk %d", name, n)
	}
	return providers.Meta{Token: token, Owner: providers.Owner{System: system, Launch: r.ID}, Name: name,
		Tags: map[string]string{"machine": r.MachineName, "kind": r.Kind}}
}

// say adds a line to the log; the oldest go.
func (r *row) say(now time.Time, format string, args ...any) {
	line := wire.LaunchLine{Time: now, Message: clean(fmt.Sprintf(format, args...), maxLine)}
	if n := len(r.Log); n > 0 && r.Log[n-1].Message == line.Message {
		return
	}
	r.Log = append(r.Log, line)
	r.Log = r.Log[max(0, len(r.Log)-wire.MaxLaunchLog):]
}

// step is the state that the launch is in.
func (r *row) step() *wire.LaunchStep { return &r.Steps[len(r.Steps)-1] }

func get[T any](r store.Reader, table, key string) (T, error) {
	var v T
	b, err := r.Get(table, []byte(key))
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("read row %q of table %s: %w", key, table, err)
	}
	return v, nil
}

// find is get, with the zero value where there is no row.
func find[T any](r store.Reader, table, key string) (T, error) {
	v, err := get[T](r, table, key)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return v, err
}

func put(w store.Writer, table, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write row %q of table %s: %w", key, table, err)
	}
	return w.Put(table, []byte(key), b)
}

func getRow(r store.Reader, id string) (row, error) {
	l, err := get[row](r, tableLaunches, id)
	if errors.Is(err, store.ErrNotFound) {
		return l, wire.NewProblem(404, wire.CodeNotFound, "there is no launch %.64q", id).WithNext("openmigrate launch ls lists them")
	}
	return l, err
}

// putRow is the only writer of a launch's row and its entry among the active ones.
func putRow(w store.Writer, l *row) error {
	if err := put(w, tableLaunches, l.ID, l); err != nil {
		return err
	}
	if l.over() {
		return w.Delete(tableActive, []byte(l.ID))
	}
	return put(w, tableActive, l.ID, active{l.Machine, l.Kind})
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func nextNumber(w store.Writer) (uint64, error) {
	b, err := w.Get(tableMeta, metaNumber)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return 0, err
	}
	n := uint64(1)
	if len(b) == 8 {
		n = binary.BigEndian.Uint64(b) + 1
	}
	return n, w.Put(tableMeta, metaNumber, u64(n))
}

// newID makes 128 random bits, in hexadecimal.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

// SystemID returns the name under which a master's installation owns things at providers. It is made once, at random, and kept in db: a master that
// lost its database gets another, and never takes for its own what it knows nothing of.
func SystemID(ctx context.Context, db store.Store) (string, error) {
	var id string
	err := db.Update(ctx, func(w store.Writer) error {
		b, err := w.Get(tableMeta, metaSystem)
		if err == nil {
			id = string(b)
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		id = newID()
		return w.Put(tableMeta, metaSystem, []byte(id))
	})
	if err != nil {
		return "", fmt.Errorf("name this system for providers: %w", err)
	}
	return id, nil
}
