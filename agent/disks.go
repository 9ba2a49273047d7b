package agent

import (
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/agent/inventory"
	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/wire"
)

// sources are the disks of one cycle. named are paths that the operator of this host gave: they count alone. Else wanted, ids
// or paths from the master, choose among the block devices of the inventory: a master can have no file read that
// nobody on this host named. Else every whole disk.
func sources(inv *wire.Inventory, named, wanted []string) ([]source.Source, error) {
	if len(named) > 0 {
		return fromPaths(named)
	}
	var paths []string
	if len(wanted) == 0 {
		for _, d := range inventory.Disks(inv) {
			paths = append(paths, d.Path)
		}
		return fromPaths(paths)
	}
	for _, w := range wanted {
		i := slices.IndexFunc(inv.Devices, func(d wire.BlockDevice) bool { return w == d.ID || w == d.Path || w == d.Name })
		if i < 0 {
			return nil, fmt.Errorf("find disk %.120q: %w: this host has no such device", w, source.ErrVanished)
		}
		if path := inv.Devices[i].Path; !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return fromPaths(paths)
}

func fromPaths(paths []string) ([]source.Source, error) {
	var out []source.Source
	for _, p := range paths {
		s, err := source.New(p, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
