package source

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// badDisk is a file of 1 MiB of which the bytes from bad to bad+4096 cannot be read.
func badDisk(t *testing.T, mode Mode, bad int64, fails func(call int) bool) *fileReader {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(path, &Options{Direct: mode})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	fr := r.(*fileReader)
	calls := 0
	fr.sys = func(fd int, p []byte, off int64, flags int) (int, error) {
		if off < bad+4096 && off+int64(len(p)) > bad {
			calls++
			if fails(calls) {
				return -1, unix.EIO
			}
		}
		return pread(fd, p, off, flags)
	}
	return fr
}

func TestReadErrorNamesThePlace(t *testing.T) {
	for name, mode := range map[string]Mode{"direct": On, "buffered": Off} {
		t.Run(name, func(t *testing.T) {
			const bad = 77 * 4096
			r := badDisk(t, mode, bad, func(int) bool { return true })
			for _, off := range []int64{0, 4096, 13} {
				buf := AlignedBuffer(512 << 10)
				n, err := r.ReadAt(buf, off)
				var re *ReadError
				if !errors.As(err, &re) || !errors.Is(err, unix.EIO) {
					t.Fatalf("read at %d: %v, want a ReadError of EIO", off, err)
				}
				if limit := int64(bad) - off; re.Offset != off+int64(n) || int64(n) > limit || int64(n) <= limit-locateStep {
					t.Errorf("read at %d: %d good bytes, error at %d; the bad block is at %d", off, n, re.Offset, bad)
				}
				if re.Length != len(buf)-n || !strings.Contains(err.Error(), r.name) {
					t.Errorf("error %q with length %d after %d bytes", err, re.Length, n)
				}
				if n < 16 || !bytes.Equal(buf[:16], []byte("0123456789abcdef0123456789abcdef")[off%16:][:16]) {
					t.Errorf("the bytes before the bad block are wrong: %q", buf[:min(n, 16)])
				}
			}
		})
	}
}

func TestPassingReadErrorHeals(t *testing.T) {
	r := badDisk(t, On, 8192, func(call int) bool { return call == 1 })
	if n, err := r.ReadAt(AlignedBuffer(64<<10), 0); err != nil || n != 64<<10 {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestRefusedFlagIsNotUsedAgain(t *testing.T) {
	r := badDisk(t, Auto, -8192, func(int) bool { return false })
	refused := 0
	r.sys = func(fd int, p []byte, off int64, flags int) (int, error) {
		if flags != 0 {
			refused++
			return -1, unix.EOPNOTSUPP
		}
		return pread(fd, p, off, flags)
	}
	r.dontCache.Store(true)
	for range 3 {
		if _, err := r.ReadAt(make([]byte, 100), 5); err != nil {
			t.Fatal(err)
		}
	}
	if refused != 1 {
		t.Errorf("the refused flag was used %d times", refused)
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, "/dev/null"} {
		if _, err := New(path, nil); err == nil {
			t.Errorf("New(%s) gives a source", path)
		}
	}
	if _, err := New(filepath.Join(dir, "absent"), nil); !errors.Is(err, ErrVanished) {
		t.Errorf("an absent file gives %v, want ErrVanished", err)
	}
}

func TestStableID(t *testing.T) {
	for want, a := range map[string]DeviceAttrs{
		"wwn-naa.5000c500a1b2c3d4":          {Name: "sda", WWN: "naa.5000c500a1b2c3d4", Serial: "X"},
		"wwn-eui.0025385b71b0a1c2-part2":    {Name: "nvme0n1", WWN: "eui.0025385b71b0a1c2", Partition: 2},
		"wwn-t10.ata_qemu_harddisk_qm00001": {WWN: "t10.ATA     QEMU HARDDISK        QM00001 "},
		"serial-qemu_nvme_ctrl_deadbeef":    {WWN: "eui.0000000000000000", Model: "QEMU NVMe Ctrl", Serial: "deadbeef"},
		"serial-data1":                      {Name: "vdb", Serial: "data1"},
		"dm-lvm-abc":                        {Name: "dm-0", DMUUID: "LVM-abc", TableID: "1234", TableScheme: "gpt"},
		"gpt-6f1c":                          {Name: "vda", Serial: "0000", TableScheme: "gpt", TableID: "6f1c"},
		"dev-vda":                           {Name: "vda", TableScheme: "mbr", TableID: "00000000"},
		"md-x":                              {Name: "md0", MDUUID: "x"},
	} {
		if got := a.StableID(); got != want {
			t.Errorf("%+v: id %s, want %s", a, got, want)
		}
	}
	long := DeviceAttrs{WWN: "t10." + strings.Repeat("x", 500), Partition: 12}.StableID()
	other := DeviceAttrs{WWN: "t10." + strings.Repeat("x", 501), Partition: 12}.StableID()
	if len(long) > 160 || long == other {
		t.Errorf("long names give %s and %s", long, other)
	}
}
