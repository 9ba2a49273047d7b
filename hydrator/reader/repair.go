package reader

import (
	"context"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// errNowhere: staging has no copy that can be used.
var errNowhere = errors.New("staging has no usable copy")

// maxCopies is how many places are tried for one id.
const maxCopies = 4

// repair tries to get an item whose first reading gave cause. Each copy is fetched once more by itself, since what was wrong may
// have happened on the way; one that stays bad is reported, and the master asked for another. What it returns is verified, or an
// error of the last copy that names the pack. dst is used when it has room.
func (r *Reader) repair(ctx context.Context, o *format.Opener, it *item, cause error, dst []byte) ([]byte, error) {
	tried := map[format.PackID]bool{}
	for range maxCopies {
		tried[it.loc.Pack] = true
		content, err := r.one(ctx, o, it, cause, dst)
		if err == nil || !isDamage(err) {
			return content, err
		}
		cause = fmt.Errorf("pack %s entry %s at %d: %w", it.loc.Pack, it.loc.Entry.ID, it.loc.Entry.Offset, err)
		if !isBase(err) {
			if err := r.report(ctx, it, err); err != nil {
				return nil, err
			}
		}
		found, _, why, err := r.resolve(ctx, it.wants)
		if err != nil {
			return nil, err
		}
		if len(why) > 0 || len(found) != 1 || tried[found[0].loc.Pack] {
			return nil, cause
		}
		it.loc, it.chain, cause = found[0].loc, found[0].chain, nil
	}
	return nil, cause
}

// one fetches and opens a single entry, and before it what it stands on, unless cause says that its pack does not exist.
func (r *Reader) one(ctx context.Context, o *format.Opener, it *item, cause error, dst []byte) ([]byte, error) {
	if errors.Is(cause, staging.ErrNotFound) && !isBase(cause) {
		return nil, cause
	}
	var base []byte
	if e := &it.loc.Entry; e.IsPatch() {
		var err error
		if base, err = r.repair(ctx, o, &item{loc: it.chain[0], chain: it.chain[1:], wants: []Want{baseWant(e)}}, nil, nil); err != nil {
			return nil, &baseError{id: e.Base, err: err}
		}
	}
	stored := make([]byte, it.loc.Entry.Stored)
	if err := r.read(ctx, it.loc.Pack, int64(it.loc.Entry.Offset), stored); err != nil {
		return nil, err
	}
	if base == nil {
		return o.OpenVerified(it.loc.Pack, it.loc.Entry, stored, dst)
	}
	return o.OpenPatch(it.loc.Pack, it.loc.Entry, stored, base, dst)
}

// report tells the master of a bad copy; of a pack that does not exist only once.
func (r *Reader) report(ctx context.Context, it *item, cause error) error {
	d := wire.Damage{Pack: it.loc.Pack.String(), ID: it.loc.Entry.ID.String(), Reason: cause.Error()}
	if errors.Is(cause, staging.ErrNotFound) {
		if !r.missing.add(it.loc.Pack) {
			return nil
		}
		d.ID = ""
	}
	if err := r.master.Quarantine(ctx, r.job, []wire.Damage{d}); err != nil {
		return fmt.Errorf("report damaged pack %s: %w", it.loc.Pack, err)
	}
	return nil
}
