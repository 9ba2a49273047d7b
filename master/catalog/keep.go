package catalog

import (
	"bytes"
	"context"

	"github.com/openmigrate/openmigrate/master/store"
)

// tableKeepers says who needs a restpoint between jobs: restpoint 0 keeper → nothing. A launch keeps its own from the moment that it has chosen it until
// it is over.
const tableKeepers = "restpoint_keepers"

// KeepRestpoint makes RemoveRestpoint refuse a restpoint until keeper lets it go; CodeNotFound when it is gone or going already. It is
// idempotent.
func (c *Catalog) KeepRestpoint(ctx context.Context, id, keeper string) error {
	return c.db.Update(ctx, func(w store.Writer) error {
		p, err := getRestpoint(w, id)
		if err != nil {
			return err
		}
		return w.Put(tableKeepers, under(p.ID, []byte(keeper)), nil)
	})
}

// LetGoRestpoint ends KeepRestpoint. It is idempotent.
func (c *Catalog) LetGoRestpoint(ctx context.Context, id, keeper string) error {
	return c.db.Update(ctx, func(w store.Writer) error { return w.Delete(tableKeepers, under(id, []byte(keeper))) })
}

// free refuses a restpoint that somebody keeps.
func free(r store.Reader, p *Restpoint) error {
	keeper := ""
	err := r.Scan(tableKeepers, under(p.ID, nil), nil, func(k, _ []byte) error {
		_, k, _ = bytes.Cut(k, []byte{0})
		keeper = string(k)
		return store.ErrStop
	})
	if err == nil && keeper != "" {
		return conflict("restpoint %s is in use by launch %s", p.ID, keeper).WithNext("end that first: openmigrate launch revert " + keeper)
	}
	return err
}
