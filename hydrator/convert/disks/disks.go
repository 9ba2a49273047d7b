// Package disks finds what can be mounted on the raw disks of a machine, and mounts it.
//
// The disks are images or block devices of a machine that is not running, with whatever somebody wrote to them. Tables and
// LVM's metadata are read in user space: the kernel here may have neither partition parsers nor device mapper. A volume is
// therefore a range of bytes of one disk, or several that are joined, which a loop device shows to a file system.
package disks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/openmigrate/openmigrate/internal/partition"
	"github.com/openmigrate/openmigrate/internal/partition/fsprobe"
)

// Disk is one disk of the machine.
type Disk struct {
	Path   string
	Size   int64 // bytes
	Scheme partition.Scheme
	Sector int // bytes; of the partition table, 512 without one

	// BootCode tells whether the first sector has code of GRUB's, as a machine with BIOS needs it on one disk.
	BootCode bool
	// Code tells whether the first sector has any code at all.
	Code     bool
	Warnings []string
}

// Volume is a part of a disk that can hold a file system.
type Volume struct {
	Disk      int    // its place in the list of disks
	Partition int    // number; 0: the whole disk, or a logical volume
	LV        string // "group/volume", or ""
	Start     int64  // bytes
	Size      int64  // bytes

	Type     string // as fsprobe has it; "" if not known
	UUID     string
	Label    string
	PartUUID string
	PartName string
	PartType string

	// Pieces are where the volume lies if that is not one range: Disk is that of the first one then, and Start means nothing.
	Pieces []Piece
	// Trouble says why the range is not the volume: it is striped, mirrored or thin. Start means nothing then.
	Trouble string
	// Snapshots tells that LVM keeps snapshots of the volume, which writes to it make useless.
	Snapshots bool
}

// String names the volume for people.
func (v Volume) String() string {
	switch {
	case v.LV != "":
		return "logical volume " + v.LV
	case v.Partition == 0:
		return fmt.Sprintf("disk %d", v.Disk)
	}
	return fmt.Sprintf("partition %d of disk %d", v.Partition, v.Disk)
}

// Mountable reports whether the volume holds a file system that this package mounts.
func (v Volume) Mountable() bool {
	switch v.Type {
	case "ext2", "ext3", "ext4", "xfs", "btrfs":
		return v.Trouble == ""
	}
	return false
}

// ErrNoDisk says that a disk cannot be opened or is empty.
var ErrNoDisk = errors.New("no disk")

// Scan looks at all disks of one machine. It writes nothing and mounts nothing.
func Scan(paths []string) ([]Disk, []Volume, error) {
	var list []Disk
	var volumes []Volume
	groups := newGroups()
	for i, path := range paths {
		d, found, err := scan(path, i, groups)
		if err != nil {
			return nil, nil, fmt.Errorf("look at disk %d (%s): %w", i, path, err)
		}
		list, volumes = append(list, d), append(volumes, found...)
	}
	logical, err := groups.volumes(list)
	if err != nil {
		return nil, nil, err
	}
	return list, append(volumes, logical...), nil
}

func scan(path string, index int, groups *groups) (Disk, []Volume, error) {
	f, err := os.Open(path)
	if err != nil {
		return Disk{}, nil, errors.Join(ErrNoDisk, err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Disk{}, nil, err
	}
	if size == 0 {
		return Disk{}, nil, fmt.Errorf("%w: it has no content", ErrNoDisk)
	}
	d := Disk{Path: path, Size: size, Sector: 512}
	whole := Volume{Disk: index, Size: size}
	var volumes []Volume
	switch table, err := partition.Read(f, size, 0); {
	case errors.Is(err, partition.ErrNone):
		volumes = []Volume{whole}
	case err != nil:
		return Disk{}, nil, err
	default:
		d.Scheme, d.Sector, d.Warnings = table.Scheme, table.SectorSize, table.Warnings
		for _, p := range table.Partitions {
			volumes = append(volumes, Volume{Disk: index, Partition: p.Number, Start: p.Start, Size: p.Size,
				PartUUID: p.UUID, PartName: p.Name, PartType: p.Type})
		}
	}
	d.BootCode, d.Code, err = bootCode(f)
	if err != nil {
		return Disk{}, nil, err
	}
	for i := range volumes {
		v := &volumes[i]
		part := io.NewSectionReader(f, v.Start, v.Size)
		content, err := fsprobe.Probe(part, v.Size)
		if err != nil {
			return Disk{}, nil, err
		}
		v.Type, v.UUID, v.Label = content.Type, content.UUID, content.Label
		if v.Type == "lvm2" {
			doc, err := fsprobe.ReadLVMMetadata(part, v.Size)
			if err != nil {
				return Disk{}, nil, err
			}
			groups.add(doc, *v)
		}
	}
	return d, volumes, nil
}

// bootCode looks for the word that GRUB's boot sector, old and new, shows before an error, and for anything at all.
func bootCode(r io.ReaderAt) (grub, code bool, err error) {
	b := make([]byte, 440)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, false, err
	}
	b = b[:n]
	grub = bytes.Contains(b, []byte("GRUB ")) || bytes.Contains(b, []byte("GRUB\x00"))
	return grub, len(bytes.Trim(b, "\x00")) > 0, nil
}
