package catalog

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// PackState is where a pack stands:
//
//	         commit                proof (Pack.Proven is set)
//	announced ────► live ──────────────────► live, proven
//	    │            │ │                         │ │
//	    │ collector  │ └─ damage ─► quarantined ◄┘ │
//	    ▼            ▼                  │          ▼
//	tombstoned ◄────────────────────────┴── collector ── object deleted ── row deleted
type PackState uint8

// States of packs.
const (
	PackAnnounced   PackState = 1 // the agent may have put it, or not
	PackLive        PackState = 2 // it is in the bucket, its entries are in the index
	PackTombstoned  PackState = 3 // to be deleted: never offered or resolved again
	PackQuarantined PackState = 4 // damaged: never offered or resolved again
)

func (s PackState) String() string {
	switch s {
	case PackAnnounced:
		return "announced"
	case PackLive:
		return "live"
	case PackTombstoned:
		return "tombstoned"
	case PackQuarantined:
		return "quarantined"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Pack is what the catalog knows of one pack.
type Pack struct {
	ID      format.PackID
	Seq     uint64 // stands for the pack in keys
	Project string
	Machine string // that wrote it; empty: found in the bucket by a rebuild of the index
	Session string // that announced it last
	Size    int64  // bytes
	CRC32C  staging.CRC32C
	State   PackState
	Entries int
	// Contents is the SHA-256 of format.MarshalEntries of what is in the index: a proof is good for that and nothing else. Zero in a row
	// of version 1.
	Contents [32]byte
	// Epoch is the collector's epoch in which the pack was announced or pinned last: see BeginCollection.
	Epoch     uint64
	Committed time.Time // zero until then
	Proven    time.Time // zero until a node has checked every id
	Changed   time.Time // to its present state
	URLUntil  time.Time // until when signed PUT URLs for it may be used
	ProveJob  bool      // a prove job has been queued for it
}

// usable reports whether an agent of machine may be told that it need not send what is in p.
func (p *Pack) usable(machine string) bool {
	return p.State == PackLive && (!p.Proven.IsZero() || p.Machine == machine)
}

// readable reports whether a reader of machine's restpoints may be sent to p. What a rebuild found in the bucket is good
// enough for that, because readers check every id.
func (p *Pack) readable(machine string) bool {
	return p.usable(machine) || p.State == PackLive && p.Machine == ""
}

// job is p as a prove job names it.
func (p *Pack) job() wire.JobPack {
	q := wire.JobPack{ID: p.ID.String(), Size: p.Size}
	if p.Contents != [32]byte{} {
		q.Contents = p.Contents[:]
	}
	return q
}

// A pack's row is binary, because an offer reads thousands:
//
//	version u8 = 2, state u8, prove job u8, 0 u8, entries u32, size u64, epoch u64, committed i64, proven i64, changed i64, URL until i64,
//	pack id [32], CRC-32C [4], contents [32] (not in version 1), then project, machine and session, each length u8 and bytes
//
// big-endian; times are nanoseconds since 1970, 0 for none.
const packRowFixed = 8 + 6*8 + 32 + 4

func appendPack(dst []byte, p *Pack) []byte {
	flag := byte(0)
	if p.ProveJob {
		flag = 1
	}
	dst = append(dst, 2, byte(p.State), flag, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.Entries))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Size))
	dst = binary.BigEndian.AppendUint64(dst, p.Epoch)
	for _, t := range []time.Time{p.Committed, p.Proven, p.Changed, p.URLUntil} {
		n := int64(0)
		if !t.IsZero() {
			n = t.UnixNano()
		}
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	dst = append(dst, p.ID[:]...)
	dst = append(dst, p.CRC32C[:]...)
	dst = append(dst, p.Contents[:]...)
	for _, s := range []string{p.Project, p.Machine, p.Session} {
		dst = append(dst, byte(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

func decodePack(seq uint64, b []byte) (*Pack, error) {
	return decodePackInto(new(Pack), seq, b, func(b []byte) string { return string(b) })
}

// decodePackInto makes strings with text.
func decodePackInto(p *Pack, seq uint64, b []byte, text func([]byte) string) (*Pack, error) {
	if len(b) < packRowFixed || b[0] != 1 && (b[0] != 2 || len(b) < packRowFixed+32) {
		return nil, fmt.Errorf("read row of pack %d: %d bytes that are no such row", seq, len(b))
	}
	*p = Pack{
		Seq: seq, State: PackState(b[1]), ProveJob: b[2] != 0,
		Entries: int(binary.BigEndian.Uint32(b[4:])), Size: int64(binary.BigEndian.Uint64(b[8:])),
		Epoch: binary.BigEndian.Uint64(b[16:]),
	}
	for i, t := range []*time.Time{&p.Committed, &p.Proven, &p.Changed, &p.URLUntil} {
		if n := int64(binary.BigEndian.Uint64(b[24+8*i:])); n != 0 {
			*t = time.Unix(0, n).UTC()
		}
	}
	copy(p.ID[:], b[56:])
	copy(p.CRC32C[:], b[88:])
	rest := b[packRowFixed:]
	if b[0] == 2 {
		rest = rest[copy(p.Contents[:], rest):]
	}
	for _, s := range []*string{&p.Project, &p.Machine, &p.Session} {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return nil, fmt.Errorf("read row of pack %d: it is cut short", seq)
		}
		*s = text(rest[1 : 1+int(rest[0])])
		rest = rest[1+int(rest[0]):]
	}
	return p, nil
}

func getPack(r store.Reader, seq uint64) (*Pack, error) {
	b, err := r.Get(tablePacks, u64(seq))
	if err != nil {
		return nil, fmt.Errorf("read row of pack %d: %w", seq, err)
	}
	return decodePack(seq, b)
}

func putPack(w store.Writer, p *Pack) error {
	return w.Put(tablePacks, u64(p.Seq), appendPack(nil, p))
}

// packByID returns store.ErrNotFound for one that was never announced.
func packByID(r store.Reader, id format.PackID) (*Pack, error) {
	b, err := r.Get(tablePackIDs, id[:])
	if err != nil {
		return nil, err
	}
	if len(b) != 8 {
		return nil, fmt.Errorf("read row of pack %s: %d bytes", id, len(b))
	}
	return getPack(r, binary.BigEndian.Uint64(b))
}

// packCache reads each pack's row once in a transaction.
type packCache struct {
	r     store.Reader
	m     map[uint64]*Pack
	texts map[string]string // most packs say the same of project, machine and session
	key   [8]byte
}

func newPackCache(r store.Reader) *packCache {
	return &packCache{r: r, m: make(map[uint64]*Pack), texts: make(map[string]string)}
}

func (c *packCache) text(b []byte) string {
	s, ok := c.texts[string(b)]
	if !ok {
		s = string(b)
		c.texts[s] = s
	}
	return s
}

func (c *packCache) get(seq uint64) (*Pack, error) {
	if p := c.m[seq]; p != nil {
		return p, nil
	}
	binary.BigEndian.PutUint64(c.key[:], seq)
	b, err := c.r.Get(tablePacks, c.key[:])
	if err != nil {
		return nil, fmt.Errorf("read row of pack %d: %w", seq, err)
	}
	p, err := decodePackInto(new(Pack), seq, b, c.text)
	if err == nil {
		c.m[seq] = p
	}
	return p, err
}
