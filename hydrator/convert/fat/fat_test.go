package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// formatted is a file system that mtools made, with the files that a distribution puts there.
func formatted(t testing.TB, sectors int, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "esp.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(sectors)*512); err != nil {
		t.Fatal(err)
	}
	loader := filepath.Join(t.TempDir(), "loader")
	if err := os.WriteFile(loader, content(300000), 0o600); err != nil {
		t.Fatal(err)
	}
	mtools(t, append([]string{"mformat", "-i", path, "-T", fmt.Sprint(sectors)}, append(args, "::")...)...)
	mtools(t, "mmd", "-i", path, "::/EFI", "::/EFI/almalinux")
	mtools(t, "mcopy", "-i", path, loader, "::/EFI/almalinux/grubx64.efi")
	mtools(t, "mcopy", "-i", path, loader, "::/EFI/almalinux/a-name-that-is-long.conf")
	return path
}

func mtools(t testing.TB, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// content is n bytes that tell where they belong.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// kinds are the file systems by their number of sectors; mformat takes clusters of 512 bytes for FAT32 here.
var kinds = map[string]struct {
	sectors int
	args    []string
}{
	"FAT16": {64 << 11, nil},
	"FAT32": {64 << 11, []string{"-F", "-c", "1"}},
}

func open(t testing.TB, path string) (*FS, *os.File) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	v, err := Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return v, f
}

func TestReadWhatMtoolsWrote(t *testing.T) {
	for name, k := range kinds {
		v, _ := open(t, formatted(t, k.sectors, k.args...))
		if v.fat32 != (name == "FAT32") {
			t.Fatalf("%s was taken for another kind", name)
		}
		for _, file := range []string{"EFI/almalinux/grubx64.efi", "/efi/ALMALINUX/A-Name-That-Is-Long.conf"} {
			if b, err := v.ReadFile(file); err != nil || !bytes.Equal(b, content(300000)) {
				t.Errorf("%s: %s: %d bytes, %v", name, file, len(b), err)
			}
		}
		list, err := v.ReadDir("EFI/almalinux")
		if err != nil || len(list) != 4 || list[2].Name != "GRUBX64.EFI" || list[2].Size != 300000 {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
		for _, missing := range []string{"EFI/BOOT/BOOTX64.EFI", "nothing", "EFI/almalinux/grubx64.efi/x"} {
			if _, err := v.ReadFile(missing); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s: %v", name, missing, err)
			}
		}
	}
}

func TestMtoolsReadsWhatWasWritten(t *testing.T) {
	for name, k := range kinds {
		path := formatted(t, k.sectors, k.args...)
		v, file := open(t, path)
		if err := v.MkdirAll("EFI/BOOT"); err != nil {
			t.Fatal(err)
		}
		if err := v.MkdirAll("/EFI/BOOT"); err != nil {
			t.Fatal(err)
		}
		want := map[string][]byte{"EFI/BOOT/BOOTX64.EFI": content(1 << 20), "EFI/BOOT/empty": nil, "EFI/almalinux/grubx64.efi": content(77777)}
		for i := range 60 { // more than a cluster of a folder holds
			want[fmt.Sprintf("EFI/BOOT/F%d.TXT", i)] = content(i)
		}
		for file, b := range want {
			for range 2 {
				if err := v.WriteFile(file, b); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		if err := v.WriteFile("EFI/BOOT/much too long.txt", nil); err == nil {
			t.Errorf("%s: a long name was written", name)
		}
		if err := file.Sync(); err != nil {
			t.Fatal(err)
		}
		for file, b := range want {
			if got := mtools(t, "mtype", "-i", path, "::/"+file); !bytes.Equal(got, b) {
				t.Errorf("%s: mtools reads %d bytes of %s, want %d", name, len(got), file, len(b))
			}
		}
		again, _ := open(t, path)
		if b, err := again.ReadFile("efi/boot/bootx64.efi"); err != nil || !bytes.Equal(b, content(1<<20)) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

func TestFull(t *testing.T) {
	v, _ := open(t, formatted(t, 8<<11, "-c", "1"))
	if err := v.WriteFile("BIG.BIN", make([]byte, 16<<20)); !errors.Is(err, ErrFull) {
		t.Errorf("writing more than there is room for: %v", err)
	}
	if b, err := v.ReadFile("EFI/almalinux/grubx64.efi"); err != nil || !bytes.Equal(b, content(300000)) {
		t.Errorf("afterwards another file has %d bytes, %v", len(b), err)
	}
}

// A chain that comes back to itself ends.
func TestLoop(t *testing.T) {
	v, _ := open(t, formatted(t, 64<<11))
	d, err := v.walk("EFI/almalinux")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.set(d.first, d.first); err != nil {
		t.Fatal(err)
	}
	if _, err := v.ReadFile("EFI/almalinux/grubx64.efi"); !errors.Is(err, ErrDamaged) {
		t.Errorf("a folder without an end: %v", err)
	}
}

// memory is a device that may be damaged.
type memory []byte

func (m memory) ReadAt(b []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(b, off) }

func (m memory) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > int64(len(m)) {
		return 0, errors.New("outside of the device")
	}
	return copy(m[off:], b), nil
}

func FuzzFAT(f *testing.F) {
	whole, err := os.ReadFile(formatted(f, 5<<11, "-c", "1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, []byte{}, 1000, []byte{})
	f.Add(11, []byte{0, 16, 128}, 512, []byte{0xff})
	f.Fuzz(func(_ *testing.T, at int, b []byte, at2 int, b2 []byte) {
		m := memory(bytes.Clone(whole))
		for _, change := range []struct {
			at int
			b  []byte
		}{{at, b}, {at2, b2}} {
			if change.at >= 0 && change.at < len(m) {
				copy(m[change.at:], change.b)
			}
		}
		v, err := Open(m, int64(len(m)))
		if err != nil {
			return
		}
		_, _ = v.ReadDir("EFI/almalinux")
		_, _ = v.ReadFile("EFI/almalinux/grubx64.efi")
		if v.MkdirAll("EFI/BOOT") == nil {
			_ = v.WriteFile("EFI/BOOT/BOOTX64.EFI", []byte("loader"))
		}
	})
}
