package hydrator

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/journal"
)

// keepJournals is how many journals of providers' volumes are kept. Nobody tells a node that a volume is gone; one whose journal was forgotten is read and hashed
// when it is written again.
const keepJournals = 1000

// journals is the folder of those of providers' volumes.
func (n *node) journals() string { return filepath.Join(n.o.DataDir, "journals") }

// forgetJournals removes the journals that were not written for longest.
func (n *node) forgetJournals() error {
	entries, err := os.ReadDir(n.journals())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	type file struct {
		name string
		at   time.Time
	}
	var all []file
	for _, e := range entries {
		if i, err := e.Info(); err == nil && i.Mode().IsRegular() && filepath.Ext(e.Name()) == journal.Suffix {
			all = append(all, file{e.Name(), i.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b file) int { return a.at.Compare(b.at) })
	for _, f := range all[:max(0, len(all)-keepJournals)] {
		err = errors.Join(err, os.Remove(filepath.Join(n.journals(), f.name)))
	}
	return err
}
