package gc_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// world is a few machines, an operator and a collector that do what comes to their minds, while the master dies now and then.
type world struct {
	*catalogtest.Env
	t    *testing.T
	rnd  *rand.Rand
	want map[string]catalogtest.Disk // every restpoint that was ever begun to be committed
	busy bool                        // a collection is running
	calm bool                        // a collection or a check is running: the master lives on
	log  []string

	machines []*machine
	commits  int
	gcs      int
	deaths   int
	patches  int
	refused  int // packs with patches
}

type machine struct {
	agent *catalogtest.Agent
	disk  catalogtest.Disk
	cycle *catalogtest.Cycle
	packs []catalogtest.Pack // that the cycle has yet to send
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{Env: catalogtest.New(t, nil), t: t, rnd: rand.New(rand.NewPCG(seed, 1)), want: make(map[string]catalogtest.Disk)}
	base := disk("d", seed, 70, 0, 1, 2, 65)
	for i := range 3 {
		m := &machine{agent: w.NewAgent(fmt.Sprint("m", i)), disk: base}
		m.agent.Patches, m.agent.Deep = i < 2, i == 1
		w.machines = append(w.machines, m)
	}
	return w
}

// check ends the test for errors that this world can not bring about by itself, and reports whether there was none.
func (w *world) check(doing string, err error) (ok bool) {
	w.t.Helper()
	for _, code := range []string{wire.CodeFenced, wire.CodeNotFound, wire.CodeConflict, wire.CodeBusy, wire.CodeMissing} {
		if wire.HasCode(err, code) {
			return false
		}
	}
	if err != nil && !errors.Is(err, catalogtest.ErrDead) {
		w.t.Fatalf("%s: %v\n%s", doing, err, strings.Join(w.log, "\n"))
	}
	return err == nil
}

// step does one thing at random.
func (w *world) step() {
	m := w.machines[w.rnd.IntN(len(w.machines))]
	switch n := w.rnd.IntN(100); {
	case n < 20:
		w.open(m)
	case n < 50:
		w.send(m)
	case n < 65:
		w.commit(m)
	case n < 68:
		m.cycle = nil // it died, or fell asleep
	case n < 70:
		m.agent.ForgetBase()
	case n < 78:
		w.remove(m)
	case n < 83:
		w.prove()
	case n < 88:
		w.note("time passes")
		w.Pass(time.Duration(w.rnd.IntN(3*3600)) * time.Second)
		w.check("tick", w.Catalog.Tick(w.t.Context()))
	case n < 90 && !w.calm:
		w.note("death ahead")
		w.DB.DieAfter(w.rnd.IntN(12), w.rnd.IntN(2) == 0)
	case n < 92 && !w.calm:
		w.inspect()
	case n < 100 && !w.busy:
		w.collect()
	}
	if w.DB.Dead() && !w.calm {
		w.revive()
	}
}

func (w *world) note(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

func (w *world) open(m *machine) {
	for range w.rnd.IntN(3) {
		at := w.rnd.IntN(70)
		if w.rnd.IntN(3) > 0 {
			at = w.rnd.IntN(3) // one that was sent before
		}
		m.disk = changed(m.disk, at)
	}
	if w.rnd.IntN(4) == 0 {
		m.disk = w.machines[w.rnd.IntN(len(w.machines))].disk // as another has it
	}
	resume := ""
	if m.cycle != nil {
		resume = m.cycle.Session.ID
	}
	c, err := m.agent.Open(resume, m.disk)
	if m.cycle = nil; !w.check("open", err) {
		return
	}
	unknown, err := c.Unknown()
	if !w.check("offer", err) {
		return
	}
	w.note("%s opens %s and sends %d of %d", m.agent.Machine.Name, c.Session.ID, len(unknown), len(c.Pieces))
	m.cycle, m.packs = c, nil
	for len(unknown) > 0 {
		n := min(len(unknown), 1+w.rnd.IntN(4))
		packs := must[[]catalogtest.Pack](w.t)(w.MakePacks(unknown[:n]))
		m.packs = append(m.packs, packs...)
		unknown = unknown[n:]
	}
}

func (w *world) send(m *machine) {
	if m.cycle == nil || len(m.packs) == 0 {
		return
	}
	p := &m.packs[0]
	if w.rnd.IntN(5) == 0 { // only half of it
		_, err := w.Catalog.Announce(w.t.Context(), m.agent.Machine.ID, m.cycle.Session.ID, []wire.PackAnnounce{p.Announce()})
		if w.check("announce", err) && w.rnd.IntN(2) == 0 {
			err := w.Bucket.Put(w.t.Context(), p.ID.Name(), p.Object, &staging.PutOptions{IfAbsent: true})
			if !errors.Is(err, staging.ErrExists) {
				w.check("put", err)
			}
		}
		return
	}
	err := m.cycle.Upload(p)
	if wire.HasCode(err, wire.CodeMissing) {
		w.refused++
		w.note("%s sends in full", m.agent.Machine.Name)
		m.agent.ForgetFull()
		w.open(m)
		return
	}
	if w.check("upload", err) {
		m.packs = m.packs[1:]
		for _, e := range must[[]format.Entry](w.t)(format.UnmarshalEntries(p.Entries)) {
			if e.IsPatch() {
				w.patches++
			}
		}
	}
}

func (w *world) commit(m *machine) {
	if m.cycle == nil || len(m.packs) > 0 {
		return
	}
	manifest := must[[]byte](w.t)(m.cycle.Manifest())
	w.want[m.cycle.Session.Restpoint] = m.disk
	_, err := m.cycle.Commit(manifest)
	if w.check("commit", err) {
		w.commits++
		w.note("%s commits %s", m.agent.Machine.Name, m.cycle.Session.Restpoint)
	}
	if !errors.Is(err, catalogtest.ErrDead) {
		m.cycle = nil
	}
}

func (w *world) remove(m *machine) {
	all, err := w.Catalog.Restpoints(w.t.Context(), m.agent.Machine.ID)
	if !w.check("list", err) || len(all) == 0 {
		return
	}
	p := all[w.rnd.IntN(len(all))]
	w.note("remove %s", p.ID)
	w.check("remove", w.Catalog.RemoveRestpoint(w.t.Context(), p.ID))
}

func (w *world) prove() {
	w.check("tick", w.Catalog.Tick(w.t.Context()))
	for range 3 {
		j, err := w.Catalog.LeaseJob(w.t.Context(), "node", wire.LeaseRequest{Kinds: []string{wire.JobProve}})
		if !w.check("lease", err) || j == nil {
			return
		}
		w.check("prove", w.Catalog.CompleteJob(w.t.Context(), "node", j.ID, wire.JobResult{}))
	}
}

// collect collects while everybody goes on at each step that can be seen of it.
func (w *world) collect() {
	w.note("collect")
	wasCalm := w.calm
	w.busy, w.calm = true, true
	g := gc.New(w.Catalog, &eventful{Store: w.Bucket, fn: w.meanwhile}, keyRing{w.Keys}, w.Clock)
	r, err := g.Collect(w.t.Context(), &gc.Options{
		Progress:       func(string, int64, int64) { w.meanwhile() },
		KeepUnfinished: w.rnd.IntN(2) == 0,
	})
	w.busy, w.calm = false, wasCalm
	if w.check("collect", err) && r.Aborted {
		w.t.Fatalf("collection was aborted: %+v\n%s", r.Problems, strings.Join(w.log, "\n"))
	}
	w.gcs++
	if !w.DB.Dead() {
		w.restoreAll()
	}
}

// inspect checks while everybody goes on: nothing that comes or goes meanwhile is taken for damage.
func (w *world) inspect() {
	w.note("check")
	w.calm = true
	g := gc.New(w.Catalog, &eventful{Store: w.Bucket, fn: w.meanwhile}, keyRing{w.Keys}, w.Clock)
	r, err := g.Check(w.t.Context(), &gc.CheckOptions{Deep: true, Progress: func(string, int64, int64) { w.meanwhile() }})
	w.calm = false
	if w.check("check", err) && r.PacksBroken+r.OrphanCount+int64(r.RestpointsBroken) != 0 {
		w.t.Fatalf("check: %+v\n%s", r, strings.Join(w.log, "\n"))
	}
}

// meanwhile lets others do something.
func (w *world) meanwhile() {
	for range w.rnd.IntN(4) {
		w.step()
	}
}

func (w *world) revive() {
	w.note("the master starts again")
	w.deaths++
	w.Restart()
	w.check("recover", w.Catalog.Recover(w.t.Context()))
	w.restoreAll()
}

// restoreAll is the invariant.
func (w *world) restoreAll() {
	w.t.Helper()
	for _, m := range w.machines {
		all := must[[]catalog.Restpoint](w.t)(w.Catalog.Restpoints(w.t.Context(), m.agent.Machine.ID))
		for i := range all {
			w.MustRestore(all[i].ID, w.want[all[i].ID])
		}
	}
	if w.t.Failed() {
		w.t.Fatal(strings.Join(w.log, "\n"))
	}
}

// eventful is a bucket around whose requests things happen. It lists one object at a time, so what comes and goes during a list is seen or not, as with S3.
type eventful struct {
	staging.Store
	fn func()
}

func (e *eventful) List(ctx context.Context, prefix, after string, fn func(staging.Info) error) error {
	for {
		e.fn()
		var next *staging.Info
		err := e.Store.List(ctx, prefix, after, func(o staging.Info) error {
			if next == nil {
				next = &o
			}
			return nil
		})
		if err != nil || next == nil {
			return err
		}
		if err := fn(*next); err != nil {
			return err
		}
		after = next.Name
	}
}

func (e *eventful) Stat(ctx context.Context, name string) (staging.Info, error) {
	e.fn()
	return e.Store.Stat(ctx, name)
}

func (e *eventful) Delete(ctx context.Context, name string) error {
	e.fn()
	return e.Store.Delete(ctx, name)
}

// needed are the ids in the trees of all restpoints that are listed, and the bases of those that are stored as patches.
func (w *world) needed() map[chunker.ID]bool {
	w.t.Helper()
	ids := make(map[chunker.ID]bool)
	for _, p := range must[[]catalog.Restpoint](w.t)(w.Catalog.AllRestpoints(w.t.Context())) {
		nodes := must[format.NodeReader](w.t)(w.Catalog.NodeReader(w.t.Context(), p.Project, p.Machine))
		for i := range p.Disks {
			d := &p.Disks[i]
			err := format.Walk(w.t.Context(), nodes, d.Root, d.Layout().Chunks(), func(_ int, _ int64, id chunker.ID) (bool, error) {
				ids[id] = true
				return true, nil
			}, func(_ int64, id chunker.ID) error {
				ids[id] = true
				return nil
			})
			if err != nil {
				w.t.Fatal(err)
			}
		}
	}
	all := slices.Collect(maps.Keys(ids))
	for len(all) > 0 {
		var bases []chunker.ID
		err := w.Catalog.Places(w.t.Context(), catalog.DefaultProject, all, func(_ int, p *catalog.Place) error {
			if p.Entry.IsPatch() && !ids[p.Entry.Base] {
				ids[p.Entry.Base] = true
				bases = append(bases, p.Entry.Base)
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
		all = bases
	}
	return ids
}

// nothingUseless checks that each pack holds something needed, and that bucket and database agree.
func (w *world) nothingUseless() {
	w.t.Helper()
	ids := w.needed()
	rows := 0
	_, err := w.Catalog.Packs(w.t.Context(), 0, 1<<20, func(p catalog.Pack) error {
		rows++
		contents, err := w.Catalog.PackContents(w.t.Context(), p.Seq)
		if !slices.ContainsFunc(contents, func(id chunker.ID) bool { return ids[id] }) {
			w.t.Errorf("nothing needs pack %s, which is %s", p.ID, p.State)
		}
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
	if n := len(objects(w.t, w.Env, "packs/")); n != rows {
		w.t.Errorf("%d packs in the bucket, %d in the database", n, rows)
	}
	if w.t.Failed() {
		w.t.Fatal(strings.Join(w.log, "\n"))
	}
}

// TestModel: whatever happens in whatever order, every restpoint that is listed can be restored, and in the end nothing is left that nothing needs.
func TestModel(t *testing.T) {
	var commits, gcs, deaths, patches, refused int
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 220 {
				w.step()
			}
			w.revive()
			later(w.Env)
			collect(t, w.Env, nil)
			collect(t, w.Env, nil)
			w.restoreAll()
			w.nothingUseless()
			for _, m := range w.machines {
				for _, p := range must[[]catalog.Restpoint](t)(w.Catalog.Restpoints(t.Context(), m.agent.Machine.ID)) {
					remove(t, w.Env, p.ID)
				}
			}
			later(w.Env)
			collect(t, w.Env, nil)
			if left := objects(t, w.Env, ""); len(left) != 0 {
				t.Errorf("left in the bucket: %v", left)
			}
			commits, gcs, deaths = commits+w.commits, gcs+w.gcs, deaths+w.deaths
			patches, refused = patches+w.patches, refused+w.refused
		})
	}
	t.Logf("%d commits, %d collections, %d deaths, %d patches, %d refused", commits, gcs, deaths, patches, refused)
	if commits < 20 || gcs < 30 || deaths < 10 || patches < 15 {
		t.Errorf("%d commits, %d collections, %d deaths, %d patches: the model does too little", commits, gcs, deaths, patches)
	}
}
