package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/openmigrate/openmigrate/internal/partition"
)

// DeviceAttrs is what names a block device, as sysfs and its own first sectors say.
type DeviceAttrs struct {
	Name        string // kernel name
	Partition   int    // 0: a whole device; else the other fields are of the device that it is a part of
	WWN         string // world wide name with its kind: naa.…, eui.…, t10.…
	Serial      string
	Vendor      string
	Model       string
	DMUUID      string
	MDUUID      string
	BackingFile string // of a loop device
	TableScheme partition.Scheme
	TableID     string // GPT GUID or MBR signature
}

// StableID is the id of a device in Source.ID and in the inventory. The first of these that the device has:
//
//	wwn-…     world wide name: SCSI, SATA, NVMe, cloud volumes
//	serial-…  model and serial number: virtio disks that were given one
//	dm-…      UUID of the device mapper: logical volumes
//	md-…      UUID of the array
//	loop-…    hash of the backing file's path
//	gpt-…     GUID of the partition table
//	mbr-…     signature of the partition table
//	dev-…     kernel name: nothing better is there, and it may change when disks are added
//
// A partition has its device's id followed by "-part" and its number. Two paths to one disk (multipath), and copies of a disk
// that has nothing but its partition table's id, have the same id: whoever lists devices must look out for that.
func (a DeviceAttrs) StableID() string {
	id := ""
	for _, c := range []struct{ prefix, value string }{
		{"wwn-", usable(a.WWN)},
		{"serial-", a.serialName()},
		{"dm-", a.DMUUID},
		{"md-", a.MDUUID},
		{"loop-", hashed(a.BackingFile)},
		{string(a.TableScheme) + "-", usable(a.TableID)},
		{"dev-", a.Name},
	} {
		if v := clean(c.value); v != "" {
			id = c.prefix + v
			break
		}
	}
	if a.Partition > 0 {
		id += fmt.Sprintf("-part%d", a.Partition)
	}
	return id
}

func (a DeviceAttrs) serialName() string {
	if usable(a.Serial) == "" {
		return ""
	}
	return strings.TrimSpace(a.Model + " " + a.Serial)
}

// usable returns "" for the placeholders that some firmware gives in place of a name.
func usable(s string) string {
	digits := s
	if _, after, ok := strings.Cut(s, "."); ok {
		digits = after
	}
	if strings.Trim(digits, "0 -") == "" {
		return ""
	}
	return s
}

func hashed(s string) string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// clean brings s to the alphabet and length of Source.ID, with room for the prefix and the partition.
func clean(s string) string {
	const limit = 120
	var b strings.Builder
	for _, c := range strings.Join(strings.Fields(s), "_") {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', strings.ContainsRune("._:-", c):
			b.WriteRune(c)
		case c >= 'A' && c <= 'Z':
			b.WriteRune(c - 'A' + 'a')
		default:
			b.WriteByte('_')
		}
	}
	if out := b.String(); len(out) <= limit {
		return out
	}
	return b.String()[:limit-33] + "-" + hashed(s)
}

// ReadDeviceAttrs collects what names the device major:minor from root/sys, and from its bytes if r is not nil. What is missing
// stays empty: many devices have little.
func ReadDeviceAttrs(root string, major, minor uint32, r io.ReaderAt) DeviceAttrs {
	link := filepath.Join(root, "/sys/dev/block", fmt.Sprintf("%d:%d", major, minor))
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		dir = link
	}
	a := DeviceAttrs{Name: filepath.Base(dir)}
	if number := sysAttr(dir, "partition"); number != "" {
		_, _ = fmt.Sscan(number, &a.Partition)
		dir, r = filepath.Dir(dir), nil
		a.Name = filepath.Base(dir)
	}
	a.ReadSys(dir)
	if r != nil {
		a.ReadTable(r, sysSize(dir), int(sysNumber(dir, "queue/logical_block_size")))
	}
	return a
}

// ReadSys fills in what the sysfs folder of a whole device says.
func (a *DeviceAttrs) ReadSys(dir string) {
	a.WWN = first(sysAttr(dir, "wwid"), sysAttr(dir, "device/wwid"))
	a.Serial = first(sysAttr(dir, "serial"), sysAttr(dir, "device/serial"), vpdSerial(dir))
	a.Vendor = sysAttr(dir, "device/vendor")
	if strings.HasPrefix(a.Vendor, "0x") {
		a.Vendor = "" // the number of a bus, not a name
	}
	a.Model = sysAttr(dir, "device/model")
	a.DMUUID = sysAttr(dir, "dm/uuid")
	a.MDUUID = sysAttr(dir, "md/uuid")
	a.BackingFile = sysAttr(dir, "loop/backing_file")
}

// ReadTable fills in the id of the partition table. A sectorSize that the parser does not know is tried as if not known.
func (a *DeviceAttrs) ReadTable(r io.ReaderAt, size int64, sectorSize int) {
	if sectorSize != 4096 && sectorSize != 512 {
		sectorSize = 0
	}
	if t, err := partition.Read(r, size, sectorSize); err == nil {
		a.TableScheme, a.TableID = t.Scheme, t.ID
	}
}

// vpdSerial reads the SCSI unit serial number page: 4 bytes of header, the last of them a length, then text.
func vpdSerial(dir string) string {
	b, err := readLimited(filepath.Join(dir, "device/vpd_pg80"))
	if err != nil || len(b) < 4 {
		return ""
	}
	b = b[4:min(len(b), 4+int(b[3]))]
	return strings.TrimSpace(string(bytes.Trim(b, "\x00")))
}

func sysSize(dir string) int64 { return sysNumber(dir, "size") * 512 }

func sysNumber(dir, name string) int64 {
	var n int64
	_, _ = fmt.Sscan(sysAttr(dir, name), &n)
	return max(n, 0)
}

func sysAttr(dir, name string) string {
	b, err := readLimited(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "_"))
}

// readLimited reads at most a page, as sysfs gives.
func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, 4096))
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
