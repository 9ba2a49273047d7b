package catalog

import (
	"context"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
)

// LostIDs returns the ids of a project of which no good copy is known.
func (c *Catalog) LostIDs(ctx context.Context, project string) ([]chunker.ID, error) {
	var ids []chunker.ID
	err := c.db.View(ctx, func(r store.Reader) error {
		ids = nil
		p, err := getProject(r, project)
		if err != nil {
			return err
		}
		prefix := indexPrefix(nil, p.Number, &chunker.Zero)[:4]
		return r.Scan(tableLost, prefix, nil, func(k, _ []byte) error {
			if len(k) != 4+chunker.IDSize {
				return fmt.Errorf("read lost ids: key of %d bytes", len(k))
			}
			ids = append(ids, chunker.ID(k[4:]))
			return nil
		})
	})
	return ids, err
}

// ForgetLost takes ids off the list of lost ones, because no restpoint needs them any more. An agent that meets such content again
// offers it and is told that it is not known.
func (c *Catalog) ForgetLost(ctx context.Context, project string, ids []chunker.ID) error {
	if len(ids) == 0 {
		return nil
	}
	return c.db.Update(ctx, func(w store.Writer) error {
		p, err := getProject(w, project)
		if err != nil {
			return err
		}
		for i := range ids {
			if err := w.Delete(tableLost, lostKey(p.Number, &ids[i])); err != nil {
				return err
			}
		}
		return nil
	})
}
