package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// upload sends pieces in one pack each.
func upload(t *testing.T, c *catalogtest.Cycle, pieces ...catalogtest.Piece) []catalogtest.Pack {
	t.Helper()
	packs := must[[]catalogtest.Pack](t)(c.Agent.Env.MakePacks(pieces))
	for i := range packs {
		if err := c.Upload(&packs[i]); err != nil {
			t.Fatal(err)
		}
	}
	return packs
}

func nothingListed(t *testing.T, e *catalogtest.Env, machine string) {
	t.Helper()
	if rs := must[[]catalog.Restpoint](t)(e.Catalog.Restpoints(t.Context(), machine)); len(rs) != 0 {
		t.Errorf("%d restpoints are listed", len(rs))
	}
}

func TestCommitMissing(t *testing.T) {
	d := disk("d", 1, 70*chunk, 0, 1, 66)
	for i := range 6 { // 3 chunks, 2 nodes of level 0, 1 of level 1
		t.Run(fmt.Sprint("piece ", i), func(t *testing.T) {
			e := catalogtest.New(t, nil)
			c := open(t, e.NewAgent("m"), d)
			if len(c.Pieces) != 6 {
				t.Fatalf("%d pieces", len(c.Pieces))
			}
			upload(t, c, slices.Delete(slices.Clone(c.Pieces), i, i+1)...)
			manifest := must[[]byte](t)(c.Manifest())
			_, err := c.Commit(manifest)
			wantCode(t, err, wire.CodeMissing, "commit")
			nothingListed(t, e, "m")
			// The session lives: what is missing can be sent.
			upload(t, c, c.Pieces[i])
			done := must[wire.Committed](t)(c.Commit(manifest))
			e.MustRestore(done.Restpoint, d)
		})
	}
}

// TestCommitForeign: ids that are only in another machine's pack count as missing until that pack is proven and was offered.
func TestCommitForeign(t *testing.T) {
	e := catalogtest.New(t, nil)
	d := disk("d", 1, 3*chunk, 0, 1)
	a, b := e.NewAgent("a"), e.NewAgent("b")
	a.Replicate(d)
	c := open(t, b, d)
	manifest := must[[]byte](t)(c.Manifest())
	if n := len(must[[]catalogtest.Piece](t)(c.Unknown())); n != 3 {
		t.Errorf("offer of what only an unproven pack of another machine has: %d of 3 unknown", n)
	}
	_, err := c.Commit(manifest)
	wantCode(t, err, wire.CodeMissing, "commit of what only an unproven pack of another machine has")
	if prove(t, e) == 0 {
		t.Fatal("nothing to prove")
	}
	_, err = c.Commit(manifest)
	wantCode(t, err, wire.CodeMissing, "commit of what was proven but never offered since")
	if n := len(must[[]catalogtest.Piece](t)(c.Unknown())); n != 0 {
		t.Errorf("offer of what is proven: %d unknown", n)
	}
	done := must[wire.Committed](t)(c.Commit(manifest))
	e.MustRestore(done.Restpoint, d)
}

// TestCommitUnpinned: what this machine sent in an earlier session must be offered again before it may be named.
func TestCommitUnpinned(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	d := disk("d", 1, 3*chunk, 0, 1)
	a.Replicate(d)
	a.ForgetBase()
	c := open(t, a, d)
	manifest := must[[]byte](t)(c.Manifest())
	_, err := c.Commit(manifest)
	wantCode(t, err, wire.CodeMissing, "commit without an offer")
	must[[]catalogtest.Piece](t)(c.Unknown())
	must[wire.Committed](t)(c.Commit(manifest))
}

func TestCommitRefusals(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	d := disk("d", 1, 3*chunk, 0, 1)
	c, good := sent(t, a, d)
	signed := func(key *catalogtest.Agent, change func(*format.Restpoint)) []byte {
		r := c.Restpoint()
		change(r)
		return must[[]byte](t)(format.SignRestpoint(e.Keys, key.Key, r))
	}
	flipped := slices.Clone(good)
	flipped[len(flipped)/2]++
	for _, tt := range []struct {
		name     string
		manifest []byte
		code     string
	}{
		{"empty", nil, wire.CodeBadRequest},
		{"flipped bit", flipped, wire.CodeForbidden},
		{"another agent's key", signed(e.NewAgent("thief"), func(*format.Restpoint) {}), wire.CodeForbidden},
		{"another restpoint", signed(a, func(r *format.Restpoint) { r.ID = "other" }), wire.CodeBadRequest},
		{"another machine", signed(a, func(r *format.Restpoint) { r.Machine = "other" }), wire.CodeBadRequest},
		{"another project", signed(a, func(r *format.Restpoint) { r.Project = "other" }), wire.CodeBadRequest},
		{"another parent", signed(a, func(r *format.Restpoint) { r.Parent = "other" }), wire.CodeBadRequest},
		{"another disk", signed(a, func(r *format.Restpoint) { r.Disks[0].ID = "other" }), wire.CodeBadRequest},
		{"another size", signed(a, func(r *format.Restpoint) { r.Disks[0].Size -= chunk }), wire.CodeBadRequest},
		{"a disk too many", signed(a, func(r *format.Restpoint) {
			r.Disks = append(r.Disks, r.Disks[0])
			r.Disks[1].Number = 1
		}), wire.CodeBadRequest},
		{"unknown root", signed(a, func(r *format.Restpoint) { r.Disks[0].Root = chunker.ID{1} }), wire.CodeMissing},
		{"a chunk as root", signed(a, func(r *format.Restpoint) { r.Disks[0].Root = c.Pieces[0].ID }), wire.CodeMissing},
	} {
		_, err := c.Commit(tt.manifest)
		wantCode(t, err, tt.code, tt.name)
	}
	nothingListed(t, e, "m")
	done := must[wire.Committed](t)(c.Commit(good))
	again, err := c.Commit(good)
	if err != nil || again != done {
		t.Errorf("commit again: %+v, %v; want %+v", again, err, done)
	}
	_, err = c.Commit(signed(a, func(r *format.Restpoint) { r.Agent = "else" }))
	wantCode(t, err, wire.CodeConflict, "commit of another manifest")
	checkChain(t, e, a.Machine.ID)
}

// TestCommitWrongLength: a chunk of another length than its place has would restore to another disk.
func TestCommitWrongLength(t *testing.T) {
	e := catalogtest.New(t, nil)
	c := open(t, e.NewAgent("m"), disk("d", 1, 2*chunk, 0))
	lie := c.Pieces[0]
	lie.Content = lie.Content[:chunk-1]
	upload(t, c, lie, c.Pieces[1])
	_, err := c.Commit(must[[]byte](t)(c.Manifest()))
	wantCode(t, err, wire.CodeMissing, "commit")
}

// TestCommitBadNode: a node that is not what its id says is found at commit, and is not known from then on.
func TestCommitBadNode(t *testing.T) {
	e := catalogtest.New(t, nil)
	c := open(t, e.NewAgent("m"), disk("d", 1, 2*chunk, 0))
	lie := c.Pieces[1]
	lie.Content = slices.Clone(lie.Content)
	lie.Content[len(lie.Content)-1]++
	upload(t, c, c.Pieces[0], lie)
	manifest := must[[]byte](t)(c.Manifest())
	_, err := c.Commit(manifest)
	wantCode(t, err, wire.CodeMissing, "commit")
	send := must[[]catalogtest.Piece](t)(c.Unknown())
	if len(send) != 1 || send[0].ID != lie.ID {
		t.Fatalf("offer after that: %d unknown, want the node", len(send))
	}
	upload(t, c, send...)
	done := must[wire.Committed](t)(c.Commit(manifest))
	e.MustRestore(done.Restpoint, disk("d", 1, 2*chunk, 0))
}

// TestCommitDeath kills the master at every transaction of a commit, before it is made durable and after, and at the PUT between them. Then
// the agent goes on in one of the ways that it has. Always one restpoint is listed, and the chain is whole.
func TestCommitDeath(t *testing.T) {
	const transactions = 2 // committing, listed
	type death struct {
		name string
		arm  func(e *catalogtest.Env)
	}
	var deaths []death
	for n := range transactions {
		for _, unheard := range []bool{false, true} {
			deaths = append(deaths, death{fmt.Sprintf("transaction %d, durable: %v", n, unheard), func(e *catalogtest.Env) { e.DB.DieAfter(n, unheard) }})
		}
	}
	deaths = append(deaths,
		death{"put not done", func(e *catalogtest.Env) { e.Bucket.FailRestpoints(true) }},
		death{"put not heard", func(e *catalogtest.Env) { e.Bucket.FailRestpoints(false) }})
	d1, d2, d3 := disk("d", 1, 4*chunk, 0, 1), disk("d", 2, 4*chunk, 1, 2), disk("d", 3, 4*chunk, 3)
	ways := map[string]func(t *testing.T, e *catalogtest.Env, c *catalogtest.Cycle, manifest []byte){
		"commit again": func(t *testing.T, _ *catalogtest.Env, c *catalogtest.Cycle, manifest []byte) {
			must[wire.Committed](t)(c.Commit(manifest))
			must[wire.Committed](t)(c.Commit(manifest))
		},
		"recover": func(t *testing.T, e *catalogtest.Env, c *catalogtest.Cycle, manifest []byte) {
			for range 2 {
				if err := e.Catalog.Recover(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			must[wire.Committed](t)(c.Commit(manifest))
		},
		"a new session": func(t *testing.T, e *catalogtest.Env, c *catalogtest.Cycle, _ []byte) {
			c.Agent.ForgetBase()
			rs := must[[]catalog.Restpoint](t)(e.Catalog.Restpoints(t.Context(), "m"))
			open(t, c.Agent, d2)
			if now := must[[]catalog.Restpoint](t)(e.Catalog.Restpoints(t.Context(), "m")); len(now) < len(rs) || len(now) > 2 {
				t.Errorf("%d restpoints, then %d", len(rs), len(now))
			}
			if len(must[[]catalog.Restpoint](t)(e.Catalog.Restpoints(t.Context(), "m"))) == 1 {
				c.Agent.Replicate(d2) // it had not been decided
			}
		},
	}
	for _, d := range deaths {
		for way, goOn := range ways {
			t.Run(d.name+", then "+way, func(t *testing.T) {
				e := catalogtest.New(t, nil)
				a := e.NewAgent("m")
				first, _ := a.Replicate(d1)
				c, manifest := sent(t, a, d2)
				d.arm(e)
				if _, err := c.Commit(manifest); err == nil {
					t.Fatal("commit went well")
				} else if !errors.Is(err, catalogtest.ErrDead) && !wire.HasCode(err, wire.CodeStaging) {
					t.Fatal(err)
				}
				e.Restart()
				goOn(t, e, c, manifest)
				if n := checkChain(t, e, a.Machine.ID); n != 2 {
					t.Fatalf("%d restpoints are listed, want 2", n)
				}
				e.MustRestore(first, d1)
				e.MustRestore("m/latest", d2)
				third, _ := a.Replicate(d3)
				e.MustRestore(third, d3)
				checkChain(t, e, a.Machine.ID)
			})
		}
	}
}

// TestCommitWhileStagingIsDown: a commit that was decided is finished by a tick as soon as it can be, and does not expire.
func TestCommitWhileStagingIsDown(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	c, manifest := sent(t, a, disk("d", 1, chunk, 0))
	e.Bucket.FailRestpoints(true)
	_, err := c.Commit(manifest)
	wantCode(t, err, wire.CodeStaging, "commit while the bucket is down")
	e.Pass(time.Hour)
	if err := e.Catalog.Tick(t.Context()); err == nil || !errors.Is(err, staging.ErrTemporary) {
		t.Errorf("tick while the bucket is down: %v", err)
	}
	_, err = a.Open("", disk("d", 1, chunk, 0))
	wantCode(t, err, wire.CodeStaging, "open while an older commit can not be finished")
	e.Bucket.Fail(nil)
	e.Tick()
	if n := checkChain(t, e, a.Machine.ID); n != 1 {
		t.Errorf("%d restpoints after the bucket was back", n)
	}
	must[wire.Committed](t)(c.Commit(manifest))
}

// TestDeathOfAgentInCommit: an agent that died while its commit could not be finished hears of that restpoint when it is back, and
// does not make it twice.
func TestDeathOfAgentInCommit(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	sync := must[string](t)(e.Catalog.RequestSync(t.Context(), a.Machine.ID))
	c, manifest := sent(t, a, disk("d", 1, chunk, 0))
	e.Bucket.FailRestpoints(true)
	_, err := c.Commit(manifest)
	wantCode(t, err, wire.CodeStaging, "commit while the bucket is down")
	e.Bucket.Fail(nil)
	h := must[wire.HelloResponse](t)(e.Catalog.Hello(t.Context(), a.Machine.ID, wire.Hello{Generation: 2, Fingerprint: a.Machine.Fingerprint}))
	if h.LastRestpoint != c.Session.Restpoint {
		t.Errorf("the agent hears of restpoint %q, want %q", h.LastRestpoint, c.Session.Restpoint)
	}
	req := wire.SessionRequest{Sync: sync, Disks: []wire.SessionDisk{{ID: "d", Size: chunk, ChunkSize: chunk}}}
	_, err = e.Catalog.OpenSession(t.Context(), a.Machine.ID, req)
	wantCode(t, err, wire.CodeFulfilled, "a session for what was made")
	req.Sync = ""
	must[wire.Session](t)(e.Catalog.OpenSession(t.Context(), a.Machine.ID, req))
}
