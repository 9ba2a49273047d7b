package volume

import (
	"bytes"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
)

// probeSize is how much of each end of a device is looked at: all common signatures lie there.
const probeSize = 1 << 20

// signatures are there to say what a target holds; anything that is not zero counts.
var signatures = []struct {
	off   int
	magic string
	name  string
}{
	{512, "EFI PART", "a GPT partition table"},
	{4096, "EFI PART", "a GPT partition table"},
	{0x438, "\x53\xef", "an ext2, ext3 or ext4 file system"},
	{0, "XFSB", "an XFS file system"},
	{0x10040, "_BHRfS_M", "a btrfs file system"},
	{512, "LABELONE", "an LVM physical volume"},
	{0, "LUKS\xba\xbe", "an encrypted LUKS volume"},
	{4086, "SWAPSPACE2", "swap space"},
	{4096, "\xfc\x4e\x2b\xa9", "a member of an md array"},
	{3, "NTFS    ", "an NTFS file system"},
	{82, "FAT32", "a FAT file system"},
	{510, "\x55\xaa", "a partition table or boot sector"},
}

// Empty returns ErrNotEmpty, saying what is there, unless the volume is a file of no bytes or a device whose first and last MiB are
// zero. The error tells how to go on.
func (v *Volume) Empty() error {
	if !v.device {
		if v.fresh {
			return nil
		}
		return v.notEmpty(fmt.Sprintf("a file of %d bytes that was not restored here", v.size))
	}
	n := min(probeSize, v.size)
	b := make([]byte, n)
	for _, at := range []int64{0, v.size - n} {
		if _, err := v.f.ReadAt(b, at); err != nil {
			return fmt.Errorf("read %s at %d: %w", v.path, at, err)
		}
		if chunker.IsZero(b) {
			continue
		}
		if at == 0 {
			return v.notEmpty(describe(b))
		}
		return v.notEmpty("data at its end")
	}
	return nil
}

func (v *Volume) notEmpty(what string) error {
	return fmt.Errorf("restore onto %s: %w: %s; give another target, or --overwrite to lose what is there", v.path, ErrNotEmpty, what)
}

func describe(b []byte) string {
	for _, s := range signatures {
		if len(b) >= s.off+len(s.magic) && bytes.Equal(b[s.off:s.off+len(s.magic)], []byte(s.magic)) {
			return s.name
		}
	}
	return "data at its start"
}
