package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/fat"
)

// A machine's UEFI remembers which loader to start. Another machine's does not, and looks for one name only (UEFI
// specification, 3.5.1.1).
var (
	fallbackDir  = "EFI/BOOT"
	fallbackName = map[string]string{"amd64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI", "386": "BOOTIA32.EFI", "riscv64": "BOOTRISCV64.EFI"}
	efiSuffix    = map[string]string{"amd64": "x64.efi", "arm64": "aa64.efi", "386": "ia32.efi", "riscv64": "riscv64.efi"}
)

// whyEFI is for the report, where paths on the ESP start with esp:/.
const whyEFI = "firmware that does not know the machine finds its boot loader"

// convertEFI makes firmware that remembers nothing find the boot loader, and changes boot menus on the ESP.
func convertEFI(s *System, e *editor) (err error) {
	if s.ESP < 0 {
		return nil
	}
	v := s.Volumes[s.ESP]
	f, err := os.OpenFile(s.Disks[v.Disk].Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	esp, err := fat.Open(section{f, v}, v.Size)
	if err != nil {
		if e.target.Firmware == UEFI {
			return err
		}
		e.warn("the EFI system partition was left as it is: %v", err)
		return nil
	}
	if err := fallback(esp, s.Arch, e); err != nil {
		if e.target.Firmware == UEFI {
			return err
		}
		e.warn("the EFI system partition has no fallback loader: %v", err)
	}
	return espMenus(esp, e)
}

// fallback copies the system's loader to where every firmware looks, unless one is there. What shim loads goes with it.
func fallback(esp *fat.FS, arch string, e *editor) error {
	name, suffix := fallbackName[arch], efiSuffix[arch]
	if name == "" {
		return nil
	}
	to := path.Join(fallbackDir, name)
	if _, err := esp.ReadFile(to); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	vendors, err := esp.ReadDir("EFI")
	if err != nil {
		return err
	}
	for _, v := range vendors {
		if !v.Dir || strings.EqualFold(v.Name, "BOOT") || strings.EqualFold(v.Name, "Microsoft") || strings.HasPrefix(v.Name, ".") {
			continue
		}
		dir := path.Join("EFI", v.Name)
		files := map[string]string{} // what is written: from what
		for _, first := range []string{"shim" + suffix, "grub" + suffix, "systemd-boot" + suffix} {
			if _, err := esp.ReadFile(path.Join(dir, first)); err != nil {
				continue
			}
			files[name] = first
			if strings.HasPrefix(first, "shim") {
				files[strings.ToUpper("grub"+suffix)], files[strings.ToUpper("mm"+suffix)] = "grub"+suffix, "mm"+suffix
			}
			break
		}
		if len(files) == 0 {
			continue
		}
		if err := esp.MkdirAll(fallbackDir); err != nil {
			return err
		}
		// The fallback last: it tells that all is there.
		for _, file := range []string{strings.ToUpper("grub" + suffix), strings.ToUpper("mm" + suffix), name} {
			b, err := esp.ReadFile(path.Join(dir, files[file]))
			if files[file] == "" || file != name && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = esp.WriteFile(path.Join(fallbackDir, file), b)
			}
			if err != nil {
				return err
			}
			e.report.Changes = append(e.report.Changes, Change{"esp:/" + path.Join(fallbackDir, file), "created", whyEFI, ""})
		}
		return nil
	}
	return errors.New("no boot loader was found below EFI on it")
}

// espMenus edits what Red Hat and its relatives keep on the ESP, and the small file with which others find grub.cfg. The old version is
// kept beside the new one.
func espMenus(esp *fat.FS, e *editor) error {
	vendors, err := esp.ReadDir("EFI")
	if err != nil {
		return nil // an empty ESP
	}
	slices.SortFunc(vendors, func(a, b fat.Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, v := range vendors {
		for _, file := range []struct {
			name, backup string
			fn           func([]byte) []byte
		}{{"grub.cfg", "GRUBCFG.OM", e.grubCfg}, {"grubenv", "GRUBENV.OM", e.grubEnv}} {
			name := path.Join("EFI", v.Name, file.name)
			old, err := esp.ReadFile(name)
			if err != nil || len(old) > 1<<20 {
				continue
			}
			b := file.fn(old)
			if bytes.Equal(b, old) {
				continue
			}
			kept := path.Join("EFI", v.Name, file.backup)
			if _, err := esp.ReadFile(kept); errors.Is(err, fs.ErrNotExist) {
				if err := esp.WriteFile(kept, old); err != nil {
					return fmt.Errorf("keep old version of %s: %w", name, err)
				}
			}
			if err := esp.WriteFile(name, b); err != nil {
				return err
			}
			e.report.Changes = append(e.report.Changes, Change{"esp:/" + name, "changed", whyGrub, "esp:/" + kept})
		}
	}
	return nil
}

// section is the part of a disk that a volume is, and nothing beyond it.
type section struct {
	f *os.File
	v disks.Volume
}

var errOutside = errors.New("outside of the volume")

func (s section) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off > s.v.Size-int64(len(b)) {
		return 0, errOutside
	}
	return s.f.ReadAt(b, s.v.Start+off)
}

func (s section) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off > s.v.Size-int64(len(b)) {
		return 0, errOutside
	}
	return s.f.WriteAt(b, s.v.Start+off)
}
