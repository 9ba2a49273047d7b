package inventory

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/internal/partition"
	"github.com/openmigrate/openmigrate/internal/partition/fsprobe"
	"github.com/openmigrate/openmigrate/wire"
)

// contents reads a device's partition table and what it and its partitions hold.
func (c *collector) contents(d *wire.BlockDevice, dir string, attrs *source.DeviceAttrs) {
	r, err := c.OpenDevice(c.ctx, c.path(d.Path))
	if err != nil {
		c.notef("partitions", "%s: %v", d.Name, err)
		return
	}
	defer func() { _ = r.Close() }()
	sector := d.LogicalSector
	if sector != 512 && sector != 4096 {
		sector = 0
	}
	attrs.ReadTable(r, d.Size, sector)

	table, err := partition.Read(r, d.Size, sector)
	if err != nil && !errors.Is(err, partition.ErrNone) {
		c.notef("partitions", "%s: %v", d.Name, err)
	}
	if err == nil && len(table.Partitions) > 0 && !isArrayMember(r, d.Size, table) {
		d.Table = c.table(r, table, d.Name, dir)
		return
	}
	d.Content = c.content(r, d.Size, d.Name)
	if d.Content == nil && err == nil {
		d.Table = c.table(r, table, d.Name, dir)
	}
}

// isArrayMember reports whether the table is not the device's own, but that of the array that the whole device is a member of. Of
// an array with its metadata at the end a member begins as the array does; its partitions end before the metadata. Where
// one reaches over that place, the metadata is the partition's.
func isArrayMember(r io.ReaderAt, size int64, table *partition.Table) bool {
	found, err := fsprobe.Probe(r, size)
	if err != nil || found.Type != "md" {
		return false
	}
	metadata := size&^(64<<10-1) - 64<<10
	return !slices.ContainsFunc(table.Partitions, func(p partition.Partition) bool { return p.Start+p.Size > metadata })
}

func (c *collector) table(r io.ReaderAt, t *partition.Table, name, dir string) *wire.PartitionTable {
	for _, w := range t.Warnings {
		c.notef("partitions", "%s: %s", name, w)
	}
	holders := c.partitionHolders(dir)
	out := &wire.PartitionTable{Scheme: string(t.Scheme), ID: t.ID, SectorSize: t.SectorSize, Backup: t.Backup, Partitions: []wire.Partition{}}
	for _, p := range cut(c, "partitions", t.Partitions, wire.MaxPartitions) {
		wp := wire.Partition{
			Number: p.Number, Start: p.Start, Size: p.Size, Type: p.Type, TypeName: p.TypeName,
			Name: clip(p.Name), UUID: p.UUID, Bootable: p.Bootable, Holders: holders[p.Number],
		}
		if !isExtended(t, p) {
			wp.Content = c.content(io.NewSectionReader(r, p.Start, p.Size), p.Size, partName(name, p.Number))
		}
		out.Partitions = append(out.Partitions, wp)
	}
	return out
}

func isExtended(t *partition.Table, p partition.Partition) bool {
	return t.Scheme == partition.MBR && slices.Contains([]string{"05", "0f", "85"}, p.Type)
}

// partitionHolders says what is built on the partitions that the kernel knows, by their number.
func (c *collector) partitionHolders(dir string) map[int][]string {
	holders := map[int][]string{}
	for _, sub := range names(dir) {
		if n := number(filepath.Join(dir, sub), "partition"); n > 0 && len(holders) < wire.MaxPartitions {
			if list := c.relations(filepath.Join(dir, sub), "holders"); len(list) > 0 {
				holders[int(n)] = list
			}
		}
	}
	return holders
}

// partName is the kernel's name of a partition.
func partName(disk string, n int) string {
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		return fmt.Sprintf("%sp%d", disk, n)
	}
	return fmt.Sprintf("%s%d", disk, n)
}

// content probes, and takes up the volume group if it is in one.
func (c *collector) content(r io.ReaderAt, size int64, name string) *wire.Content {
	found, err := fsprobe.Probe(r, size)
	if err != nil {
		c.notef("content", "%s: %v", name, err)
	}
	if err != nil || found.Type == "" {
		return nil
	}
	if found.Type == "lvm2" {
		c.volumeGroup(r, size, name)
	}
	return &wire.Content{Type: found.Type, UUID: found.UUID, Label: clip(found.Label)}
}

// maxVolumes is the most logical volumes of one group that are listed.
const maxVolumes = 256

func (c *collector) volumeGroup(r io.ReaderAt, size int64, name string) {
	vg, err := fsprobe.ReadVolumeGroup(r, size)
	if err != nil {
		c.notef("volume_groups", "%s: %v", name, err)
	}
	if err != nil || vg.Name == "" {
		return
	}
	for i := range c.inv.VolumeGroups {
		if g := &c.inv.VolumeGroups[i]; g.UUID == vg.UUID && g.Name == clip(vg.Name) {
			if len(g.PhysicalVolumes) < wire.MaxInventoryRelation {
				g.PhysicalVolumes = append(g.PhysicalVolumes, name)
			}
			return
		}
	}
	if len(c.inv.VolumeGroups) == wire.MaxVolumeGroups {
		c.notef("volume_groups", "%s: left out: there are more than %d groups", vg.Name, wire.MaxVolumeGroups)
		return
	}
	c.inv.VolumeGroups = append(c.inv.VolumeGroups, wire.VolumeGroup{
		Name: clip(vg.Name), UUID: clip(vg.UUID), PhysicalVolumes: []string{name},
		LogicalVolumes: cut(c, "volume_groups", vg.LogicalVolumes, maxVolumes),
	})
}
