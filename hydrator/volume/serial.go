package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoDisk: no disk of this host has that serial number, or several have.
var ErrNoDisk = errors.New("no such disk")

// serialNumber is what a serial number may look like.
var serialNumber = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{3,63}$`)

// virtioSerial is how much of a serial number a virtio block device shows: VIRTIO_BLK_ID_BYTES.
const virtioSerial = 20

// OpenSerial opens the whole disk of this host that has a serial number, which may lack its dashes (EC2 shows vol-0123 as vol0123) and, on
// virtio, all after 20 characters. A disk that is mounted, or that anything else uses, is ErrInUse.
func OpenSerial(serial string) (*Volume, error) { return openSerial("/sys/block", "/dev", serial) }

func openSerial(sys, dev, serial string) (*Volume, error) {
	name, err := findSerial(sys, serial)
	if err != nil {
		return nil, fmt.Errorf("find disk with serial number %.80q: %w", serial, err)
	}
	v, err := Open(filepath.Join(dev, name))
	if err != nil {
		return nil, fmt.Errorf("disk with serial number %s: %w", serial, err)
	}
	if err := v.is(filepath.Join(sys, name)); err != nil {
		return nil, errors.Join(fmt.Errorf("disk with serial number %s: %w", serial, err), v.Close())
	}
	v.fixed = true
	return v, nil
}

// is makes sure that what was opened is the block device that sysfs speaks of.
func (v *Volume) is(dir string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(v.f.Fd()), &st); err != nil {
		return fmt.Errorf("identify %s: %w", v.path, err)
	}
	number, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return fmt.Errorf("identify %s: %w", v.path, err)
	}
	if want := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)); !v.device || strings.TrimSpace(string(number)) != want {
		return fmt.Errorf("%w: %s is not the device that the kernel calls so", ErrKind, v.path)
	}
	return nil
}

func findSerial(sys, serial string) (string, error) {
	if !serialNumber.MatchString(serial) {
		return "", fmt.Errorf("%w: that is no serial number", ErrNoDisk)
	}
	list, err := os.ReadDir(sys)
	if err != nil {
		return "", fmt.Errorf("list disks: %w", err)
	}
	var found []string
	for _, e := range list {
		dir := filepath.Join(sys, e.Name())
		if attribute(dir, "hidden") == "1" || !hasSerial(dir, serial) {
			continue
		}
		found = append(found, e.Name())
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%w: is the volume attached to this host?", ErrNoDisk)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%w: %s have it; multipath must be off on a hydrator", ErrNoDisk, strings.Join(found, ", "))
}

func hasSerial(dir, want string) bool {
	forms := []string{want, strings.ReplaceAll(want, "-", "")}
	for _, form := range forms {
		virtio := attribute(dir, "serial")
		if virtio == form || len(form) > virtioSerial && virtio == form[:virtioSerial] {
			return true
		}
		// NVMe, then SCSI's page 80, whose first four bytes are its header.
		if attribute(dir, "device/serial") == form {
			return true
		}
		if page := attribute(dir, "device/vpd_pg80"); len(page) > 4 && strings.Trim(page[4:], " \x00") == form {
			return true
		}
	}
	return false
}

// attribute is a small file of sysfs, "" if it is not there.
func attribute(dir, name string) string {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 512))
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), " \n\x00")
}
