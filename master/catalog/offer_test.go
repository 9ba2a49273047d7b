package catalog_test

import (
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// unknown counts what a new session of a would have to send.
func unknown(t *testing.T, a *catalogtest.Agent, d catalogtest.Disk) int {
	t.Helper()
	a.ForgetBase()
	return len(must[[]catalogtest.Piece](t)(open(t, a, d).Unknown()))
}

// packsIn lists all packs.
func packsIn(t *testing.T, e *catalogtest.Env) []catalog.Pack {
	t.Helper()
	var all []catalog.Pack
	must[uint64](t)(e.Catalog.Packs(t.Context(), 0, 1000, func(p catalog.Pack) error {
		all = append(all, p)
		return nil
	}))
	return all
}

func TestOfferNeverFromUnusable(t *testing.T) {
	e := catalogtest.New(t, nil)
	a, b := e.NewAgent("a"), e.NewAgent("b")
	d := disk("d", 1, 40*chunk, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
	_, all := a.Replicate(d)
	if n := unknown(t, b, d); n != all {
		t.Errorf("unproven packs of another machine: %d unknown of %d", n, all)
	}
	if n := unknown(t, a, d); n != 0 {
		t.Errorf("its own packs: %d unknown", n)
	}
	prove(t, e)
	if n := unknown(t, b, d); n != 0 {
		t.Errorf("proven packs of another machine: %d unknown", n)
	}
	packs := packsIn(t, e)
	if len(packs) < 2 {
		t.Fatalf("%d packs", len(packs))
	}
	ids := must[[]chunker.ID](t)(e.Catalog.PackContents(t.Context(), packs[0].Seq))
	if err := e.Catalog.Quarantine(t.Context(), "default", []wire.Damage{{Pack: packs[0].ID.String(), ID: ids[0].String()}}); err != nil {
		t.Fatal(err)
	}
	if n := unknown(t, b, d); n != 1 {
		t.Errorf("one damaged entry: %d unknown", n)
	}
	if err := e.Catalog.Quarantine(t.Context(), "default", []wire.Damage{{Pack: packs[0].ID.String()}}); err != nil {
		t.Fatal(err)
	}
	for _, agent := range []*catalogtest.Agent{a, b} {
		if n := unknown(t, agent, d); n != packs[0].Entries {
			t.Errorf("a quarantined pack of %d entries: %d unknown", packs[0].Entries, n)
		}
	}
	// Fence the sessions that pin the other packs, and put a tombstone on one as a collector would.
	open(t, a, disk("x", 1, chunk, 0))
	open(t, b, disk("x", 1, chunk, 0))
	col := must[*catalog.Collection](t)(e.Catalog.BeginCollection(t.Context()))
	if got := must[[]catalog.Pack](t)(e.Catalog.Tombstone(t.Context(), col, []uint64{packs[1].Seq})); len(got) != 1 {
		t.Fatalf("%d tombstones", len(got))
	}
	if n := unknown(t, a, d); n != packs[0].Entries+packs[1].Entries {
		t.Errorf("and a tombstone on one of %d entries: %d unknown", packs[1].Entries, n)
	}
	locs := must[[]wire.Location](t)(e.Catalog.Resolve(t.Context(), "default", ids[:1]))
	if locs[0].Found {
		t.Error("an entry of a quarantined pack resolves")
	}
}

func TestOfferAnswers(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	c, _ := sent(t, a, disk("d", 1, 3*chunk, 0, 1, 2))
	ids := []chunker.ID{{9}, c.Pieces[1].ID, chunker.Zero, {7}, c.Pieces[0].ID, c.Pieces[1].ID}
	known := must[wire.Bitmap](t)(e.Catalog.Offer(t.Context(), a.Machine.ID, c.Session.ID, ids))
	for i, want := range []bool{false, true, true, false, true, true} {
		if known.Get(i) != want {
			t.Errorf("id %d known: %v", i, known.Get(i))
		}
	}
	_, err := e.Catalog.Offer(t.Context(), a.Machine.ID, c.Session.ID, make([]chunker.ID, wire.MaxOffer+1))
	wantCode(t, err, wire.CodeBadRequest, "an offer that is too long")
}

func TestAnnounce(t *testing.T) {
	e := catalogtest.New(t, &catalog.Options{MaxOutstanding: 3})
	a, b := e.NewAgent("a"), e.NewAgent("b")
	c := open(t, a, disk("d", 1, 8*chunk, 0, 1, 2, 3))
	announce := func(c *catalogtest.Cycle, l ...wire.PackAnnounce) ([]wire.PackUpload, error) {
		return e.Catalog.Announce(t.Context(), c.Agent.Machine.ID, c.Session.ID, l)
	}
	pack := must[[]catalogtest.Pack](t)(e.MakePacks(c.Pieces))[0]
	good := pack.Announce()
	up := must[[]wire.PackUpload](t)(announce(c, good))
	if up[0].URL == "" || up[0].Exists || up[0].ID != good.ID {
		t.Errorf("announcement answered %+v", up[0])
	}
	otherSum, otherSize := good, good
	sum := staging.Checksum([]byte("other"))
	otherSum.CRC32C = sum[:]
	otherSize.Size++
	for name, other := range map[string]wire.PackAnnounce{"checksum": otherSum, "size": otherSize} {
		_, err := announce(c, other)
		wantCode(t, err, wire.CodeConflict, "the same id with another "+name)
	}
	_, err := announce(open(t, b, disk("d", 1, chunk, 0)), good)
	wantCode(t, err, wire.CodeConflict, "another machine's pack")
	if up := must[[]wire.PackUpload](t)(announce(c, good, good)); up[0].URL == "" || up[1].URL == "" {
		t.Error("announced again, it has no URL")
	}
	for name, bad := range map[string]wire.PackAnnounce{
		"id":       {ID: "x", Size: 100, CRC32C: sum[:]},
		"checksum": {ID: good.ID, Size: 100, CRC32C: sum[:3]},
	} {
		_, err := announce(c, bad)
		wantCode(t, err, wire.CodeBadRequest, "malformed "+name)
	}
	for _, size := range []int64{-1, 0, format.MaxPack + 1} {
		_, err := announce(c, wire.PackAnnounce{ID: good.ID, Size: size, CRC32C: sum[:]})
		wantCode(t, err, wire.CodeTooLarge, "size")
	}
	_, err = announce(c, make([]wire.PackAnnounce, wire.MaxAnnounce+1)...)
	wantCode(t, err, wire.CodeBadRequest, "too many")
	more := func(i byte) wire.PackAnnounce {
		return wire.PackAnnounce{ID: format.PackID{i}.String(), Size: 100, CRC32C: sum[:]}
	}
	_, err = announce(c, more(1), more(2), more(3))
	wantCode(t, err, wire.CodeFull, "more than may be outstanding")
	if len(packsIn(t, e)) != 1 {
		t.Error("a refused announcement left rows")
	}
	if err := c.Upload(&pack); err != nil {
		t.Fatal(err)
	}
	must[[]wire.PackUpload](t)(announce(c, more(1), more(2), more(3)))
	if up := must[[]wire.PackUpload](t)(announce(c, good)); !up[0].Exists || up[0].URL != "" {
		t.Errorf("announcement of a committed pack answered %+v", up[0])
	}
}

func TestCommitPack(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	c := open(t, a, disk("d", 1, 8*chunk, 0, 1, 2, 3))
	pack := must[[]catalogtest.Pack](t)(e.MakePacks(c.Pieces))[0]
	commit := func(c *catalogtest.Cycle, entries []byte) error {
		return e.Catalog.CommitPack(t.Context(), c.Agent.Machine.ID, c.Session.ID, pack.ID, entries)
	}
	wantCode(t, commit(c, pack.Entries), wire.CodeNotFound, "never announced")
	must[[]wire.PackUpload](t)(e.Catalog.Announce(t.Context(), a.Machine.ID, c.Session.ID, []wire.PackAnnounce{pack.Announce()}))
	wantCode(t, commit(c, pack.Entries), wire.CodeConflict, "not in the bucket")
	if err := e.Bucket.Put(t.Context(), pack.ID.Name(), pack.Object[:len(pack.Object)-1], nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, commit(c, pack.Entries), wire.CodeConflict, "cut short")
	if err := e.Bucket.Put(t.Context(), pack.ID.Name(), pack.Object, nil); err != nil {
		t.Fatal(err)
	}
	list, err := format.UnmarshalEntries(pack.Entries)
	if err != nil {
		t.Fatal(err)
	}
	big := append([]format.Entry(nil), list...)
	for range 20 {
		big = append(big, format.Entry{Kind: format.KindChunk, ID: chunker.ID{byte(len(big))}, Stored: chunk + 16, Raw: chunk})
	}
	twice := append([]format.Entry(nil), list...)
	twice[1] = twice[0]
	for name, entries := range map[string][]byte{
		"none": nil, "garbage": pack.Entries[1:], "past the end": format.MarshalEntries(big), "twice": format.MarshalEntries(twice),
	} {
		wantCode(t, commit(c, entries), wire.CodeBadRequest, name)
	}
	other := open(t, e.NewAgent("b"), disk("d", 1, chunk, 0))
	wantCode(t, commit(other, pack.Entries), wire.CodeNotFound, "another machine's pack")
	e.Bucket.Fail(func(op, _ string) (bool, error) {
		if op == "stat" {
			return true, staging.ErrTemporary
		}
		return false, nil
	})
	wantCode(t, commit(c, pack.Entries), wire.CodeStaging, "bucket is down")
	e.Bucket.Fail(nil)
	for range 2 {
		if err := commit(c, pack.Entries); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, commit(c, format.MarshalEntries(list[1:])), wire.CodeConflict, "again with other entries")
	p := must[catalog.Pack](t)(e.Catalog.Pack(t.Context(), pack.ID))
	if p.State != catalog.PackLive || p.Entries != len(list) || p.Size != int64(len(pack.Object)) || !p.Proven.IsZero() {
		t.Errorf("pack is %+v", p)
	}
	s := must[catalog.Session](t)(e.Catalog.Session(t.Context(), c.Session.ID))
	if s.Outstanding != 0 {
		t.Errorf("%d packs outstanding", s.Outstanding)
	}
}
