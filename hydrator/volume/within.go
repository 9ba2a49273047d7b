package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrOutside: the target is not where targets may be.
var ErrOutside = errors.New("target is outside of the folder that this node may write to")

// OpenWithin opens an existing raw file that must lie in folder, wherever symbolic links lead: ErrOutside otherwise. The file belongs to
// somebody else, who also says how large it is: SetSize never changes that. One that is all hole counts as fresh.
func OpenWithin(folder, path string) (*Volume, error) {
	v := &Volume{path: path, fixed: true}
	err := v.openWithin(folder)
	if err == nil {
		err = v.claim()
	}
	if err == nil {
		v.direct.open(v.f)
	}
	if err != nil {
		_ = v.Close()
		return nil, fmt.Errorf("open target %s: %w", path, err)
	}
	return v, nil
}

func (v *Volume) openWithin(folder string) error {
	name, err := below(folder, v.path)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // it was only read
	st, err := root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil: // os.Root does not say more
		return fmt.Errorf("%w: %s: %w", ErrOutside, folder, err)
	case !st.Mode().IsRegular():
		return fmt.Errorf("%w: it is a %s, and only files are looked for in %s", ErrKind, st.Mode().Type(), folder)
	}
	if err := fileInUse(v.path, st); err != nil {
		return err
	}
	// Whatever took the file's place meanwhile is neither waited for nor followed.
	if v.f, err = root.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	now, err := v.f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(st, now) {
		return fmt.Errorf("%w: it was replaced while it was opened", ErrKind)
	}
	return machineHas(v.f)
}

// below is path relative to folder. The path may name the folder as it was given, or as it is without symbolic links.
func below(folder, path string) (string, error) {
	if !filepath.IsAbs(folder) || !filepath.IsAbs(path) {
		return "", fmt.Errorf("%w: %s: both must be absolute paths", ErrOutside, folder)
	}
	if path != filepath.Clean(path) {
		return "", fmt.Errorf("%w: %s: the path is not in its shortest form", ErrOutside, folder)
	}
	folders := []string{filepath.Clean(folder)}
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folders = append(folders, real)
	}
	for _, f := range folders {
		if name, ok := strings.CutPrefix(path, strings.TrimSuffix(f, "/")+"/"); ok && filepath.IsLocal(name) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: %s", ErrOutside, folder)
}

// machineHas tells whether a program holds record locks on the file, as QEMU does on the disks of a running machine.
func machineHas(f *os.File) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return fmt.Errorf("look for locks: %w", err)
	}
	if lock.Type != unix.F_UNLCK {
		return fmt.Errorf("%w: another program has locked it, as a running virtual machine does; stop that first", ErrInUse)
	}
	return nil
}

// hole reports whether a file has no data at all.
func hole(f *os.File) bool {
	_, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	return errors.Is(err, unix.ENXIO)
}
