package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// temporary is the suffix of files that are being written. One that a killed process left is overwritten by the next.
const temporary = ".openmigrate-new"

// WriteFile replaces what name leads to, or makes it. A file that is there keeps its owner and its mode.
func (t *Tree) WriteFile(name string, b []byte, mode fs.FileMode) error {
	return t.Replace(name, mode, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}

// Replace is WriteFile with content that fill writes.
func (t *Tree) Replace(name string, mode fs.FileMode, fill func(*os.File) error) error {
	return t.replace(name, mode, os.Geteuid(), os.Getegid(), fill)
}

// replace gives a file that is not there yet this mode and owner.
func (t *Tree) replace(name string, mode fs.FileMode, uid, gid int, fill func(*os.File) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	real, err := t.Resolve(name)
	if err != nil {
		return err
	}
	if err := t.MkdirAll(path.Dir(real)); err != nil {
		return err
	}
	old, err := t.root.Lstat(real)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !old.Mode().IsRegular():
		return errors.New("it is no file")
	default:
		mode = old.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
		if st, ok := old.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(st.Uid), int(st.Gid)
		}
	}
	tmp := real + temporary
	if err := t.root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := t.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = t.root.Remove(tmp)
		}
	}()
	err = errors.Join(fill(f), f.Chown(uid, gid), f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := t.root.Rename(tmp, real); err != nil {
		return err
	}
	return t.syncDir(path.Dir(real))
}

// MkdirAll makes a folder and those above it.
func (t *Tree) MkdirAll(name string) error {
	real, err := t.Resolve(name)
	if err != nil {
		return err
	}
	return t.root.MkdirAll(real, 0o755)
}

// Symlink makes name a symbolic link; what was there, other than a folder, is replaced.
func (t *Tree) Symlink(target, name string) error {
	real, err := t.resolve(name, false)
	if err != nil {
		return err
	}
	if err := t.root.MkdirAll(path.Dir(real), 0o755); err != nil {
		return err
	}
	tmp := real + temporary
	if err := t.root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.root.Symlink(target, tmp); err != nil {
		return err
	}
	return errors.Join(t.root.Rename(tmp, real), t.syncDir(path.Dir(real)))
}

// Remove removes a file or symbolic link, not what the link leads to. One that is not there is no error.
func (t *Tree) Remove(name string) error {
	real, err := t.resolve(name, false)
	if err != nil {
		return err
	}
	if err := t.root.Remove(real); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return t.syncDir(path.Dir(real))
}

// Copy copies a file of the system, with owner and mode, or a symbolic link as such. What is there already is replaced.
func (t *Tree) Copy(from, to string) error {
	info, err := t.Lstat(from)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		link, err := t.Readlink(from)
		if err != nil {
			return err
		}
		return t.Symlink(link, to)
	}
	in, err := t.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	uid, gid := os.Geteuid(), os.Getegid()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		uid, gid = int(st.Uid), int(st.Gid)
	}
	return t.replace(to, info.Mode().Perm(), uid, gid, func(out *os.File) error {
		_, err := io.Copy(out, in)
		return err
	})
}

func (t *Tree) syncDir(name string) error {
	f, err := t.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Free is how many bytes can be written to the file system that a folder is on.
func (t *Tree) Free(name string) (int64, error) {
	real, err := t.Resolve(name)
	if err != nil {
		return 0, err
	}
	f, err := t.root.Open(real)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}
