package catalog

import (
	"context"
	"errors"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// DefaultProject is there from the start.
const DefaultProject = "default"

// Project is a tenant: its keys, its dedup domain and its machines are its own.
type Project struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Number  uint32    `json:"number"` // stands for the project in keys of the chunk index
}

var projects = table[Project]{"projects"}

// Project returns a project by its id; CodeNotFound.
func (c *Catalog) Project(ctx context.Context, id string) (Project, error) {
	var p Project
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		p, err = getProject(r, id)
		return err
	})
	return p, err
}

// Projects returns all of them in order of their ids.
func (c *Catalog) Projects(ctx context.Context) ([]Project, error) {
	var all []Project
	err := c.db.View(ctx, func(r store.Reader) error {
		return projects.scan(r, nil, nil, func(_ []byte, p Project) error {
			all = append(all, p)
			return nil
		})
	})
	return all, err
}

func getProject(r store.Reader, id string) (Project, error) {
	p, err := projects.get(r, []byte(id))
	if errors.Is(err, store.ErrNotFound) {
		return p, wire.NewProblem(404, wire.CodeNotFound, "there is no project %.64q", id)
	}
	return p, err
}
