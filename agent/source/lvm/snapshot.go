package lvm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/agent/source"
)

// namePrefix begins the names of our snapshots.
const namePrefix = "openmigrate_snap_"

var ourName = regexp.MustCompile(`^` + namePrefix + `[0-9a-f]{16}$`)

// Snapshot is a volume as it was at one instant. Remove it in any case.
type Snapshot struct {
	l      *LVM
	origin *volume
	made   *volume
	Room   int64         // bytes that may be overwritten before it is lost; 0: a thin one
	Took   time.Duration // of the program that took it: the volume was suspended no longer

	mu   sync.Mutex
	lost error // guarded by mu; sticky
}

// Prepared is a snapshot that can be taken.
type Prepared struct {
	l      *LVM
	origin *volume
	room   int64 // bytes; 0: thin
}

// Prepare finds out whether a snapshot of the volume at path can be taken now. tooLittle is the Room of the last one, if that was lost.
// ErrNone says that there is no way, and why.
func (l *LVM) Prepare(ctx context.Context, path string, tooLittle int64) (*Prepared, error) {
	v, err := l.find(ctx, path)
	if err != nil {
		return nil, err
	}
	p := &Prepared{l: l, origin: v}
	if v.thin() {
		pool, err := l.pool(ctx, v)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNone, err)
		}
		if err := pool.full(poolTake); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNone, err)
		}
		return p, nil
	}
	size, err1 := number(v.SizeText)
	free, err2 := number(v.FreeText)
	extent, err3 := number(v.ExtentText)
	err = errors.Join(err1, err2, err3)
	if err == nil {
		p.room, err = roomFor(size, free, extent, tooLittle)
	}
	if err != nil {
		return nil, fmt.Errorf("%w of %s: %w", ErrNone, v.path(), err)
	}
	return p, nil
}

// Take takes the snapshot. A file system that is mounted directly from the volume is frozen for that moment.
func (p *Prepared) Take(ctx context.Context) (*Snapshot, error) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	name := namePrefix + hex.EncodeToString(b[:])
	args := []string{"lvcreate", "--yes", "--snapshot", "--permission", "r", "--name", name, "--addtag", p.l.Tag}
	if p.origin.thin() {
		args = append(args, "--setactivationskip", "n")
	} else {
		args = append(args, "--size", strconv.FormatInt(p.room, 10)+"b")
	}
	began := time.Now()
	_, err := p.l.run(ctx, changes, "lvm", append(args, p.origin.path())...)
	s := &Snapshot{l: p.l, origin: p.origin, Room: p.room, Took: time.Since(began), made: &volume{Name: name, Group: p.origin.Group}}
	if err != nil {
		// It may have come half of the way.
		return nil, fmt.Errorf("%w of %s: %w", ErrNone, p.origin.path(), errors.Join(err, p.l.removeIfThere(ctx, s.made)))
	}
	all, err := p.l.list(ctx, s.made.path())
	if err == nil && (len(all) != 1 || all[0].Name != name) {
		err = errors.New("lvs does not list the snapshot that was made")
	}
	if err != nil {
		return nil, fmt.Errorf("%w of %s: %w", ErrNone, p.origin.path(), errors.Join(err, s.Remove(ctx)))
	}
	s.made = &all[0]
	if err := s.Check(ctx); err != nil { // what cannot be looked after is of no use
		return nil, fmt.Errorf("%w of %s: %w", ErrNone, p.origin.path(), errors.Join(err, s.Remove(ctx)))
	}
	return s, nil
}

// Check finds out whether the snapshot is whole, and has room to stay so. An error wraps source.ErrLost, and is the answer from then on.
func (s *Snapshot) Check(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost != nil {
		return s.lost
	}
	lost, err := s.state(ctx)
	if lost != nil {
		s.lost = fmt.Errorf("%w: snapshot of %s: %w", source.ErrLost, s.origin.path(), lost)
		return s.lost
	}
	return err
}

// failed is what Check said last, if that was that it is lost.
func (s *Snapshot) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Lost reports whether a check found the snapshot lost.
func (s *Snapshot) Lost() bool { return s.failed() != nil }

// state is why the snapshot is lost, or why that cannot be told.
func (s *Snapshot) state(ctx context.Context) (lost, err error) {
	out, err := s.l.run(ctx, reads, "dmsetup", "status", s.made.Device)
	if err != nil {
		return nil, fmt.Errorf("look after the snapshot of %s: %w", s.origin.path(), err)
	}
	// start length target, and for a snapshot used/all used-by-tables, or a word (Documentation/admin-guide/device-mapper/snapshot.rst).
	fields := strings.Fields(string(out))
	if len(fields) < 4 {
		return fmt.Errorf("the kernel says %.100q of it", string(out)), nil
	}
	switch target, status := fields[2], fields[3]; {
	case target == "snapshot":
		if used, all, ok := strings.Cut(status, "/"); ok {
			if _, err := number(used); err == nil {
				if _, err := number(all); err == nil {
					return nil, nil
				}
			}
		}
		return fmt.Errorf("more than its %d MiB were overwritten while it was read (the kernel says %.40q); the next one is larger, if the volume group has room",
			s.Room>>20, status), nil
	case target == "thin" && status != "Fail" && status != "Error":
		pool, err := s.l.pool(ctx, s.origin)
		if err != nil {
			return nil, err
		}
		return pool.full(poolKeep), nil
	default:
		return fmt.Errorf("the kernel says %.100q of it", strings.Join(fields[2:], " ")), nil
	}
}

// pool is the thin pool of a volume.
func (l *LVM) pool(ctx context.Context, v *volume) (*volume, error) {
	all, err := l.list(ctx, v.Group+"/"+v.Pool)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("lvs does not list the pool of %s", v.path())
	}
	return &all[0], nil
}

// full is an error if the pool, its data or its tables, is fuller than percent.
func (v *volume) full(percent float64) error {
	for _, c := range []struct{ what, text string }{{"data", v.Data}, {"metadata", v.Metadata}} {
		n, err := strconv.ParseFloat(c.text, 64)
		if err != nil {
			return fmt.Errorf("lvs does not say how full the pool %s is", v.path())
		}
		if n > percent {
			return fmt.Errorf("the %s of its pool %s are full to %.0f %%, and with more than %.0f %% a snapshot would endanger the machine; extend the pool (lvextend)", c.what, v.path(), n, percent)
		}
	}
	return nil
}
