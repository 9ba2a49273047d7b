package convert

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// An initramfs that starts the machine at home lacks little to start it elsewhere: drivers, and the new version of what conversion
// changed and it has a copy of. The kernel unpacks one archive after the other, and what comes later wins, so all of
// that is put into a second archive behind the first. That takes a moment where the machine's own tool takes a minute
// or more, runs nothing of the machine's, and keeps whatever else the initramfs does. What cannot be said in that way is built again.

// errBuild says that an initramfs cannot be extended and has to be built.
var errBuild = errors.New("it was built again")

func mustBuild(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errBuild, fmt.Errorf(format, args...))
}

// maxExtension is the most that is added, in bytes before compression.
const maxExtension = 64 << 20

// indexes of modules by which drivers are found, of all modules of the kernel: those that the initramfs lacks are not found.
var indexes = []string{"modules.dep", "modules.dep.bin", "modules.alias", "modules.alias.bin", "modules.softdep"}

// extension is what goes behind an initramfs.
type extension struct {
	*archive
	files map[string][]byte // by name, links followed
	size  int
}

// put adds a file, or its new version.
func (x *extension) put(name string, content []byte) error {
	real, err := x.real(name)
	if err != nil {
		return mustBuild("%w", err)
	}
	if have, ok := x.modes[real]; ok && (have.mode&cpioType != cpioRegular || have.links > 1) {
		return mustBuild("%s in it cannot be replaced", name) // through one of several links all would change
	}
	if x.size += len(content); x.size > maxExtension {
		return mustBuild("there is too much to add")
	}
	x.files[real] = content
	return nil
}

// extend finds what an initramfs lacks, which may be nothing. The error is errBuild if it has to be built.
func (e *editor) extend(a *archive, tool initramfsTool, k Kernel, modules []string) (*extension, error) {
	x := &extension{archive: a, files: map[string][]byte{}}
	if a.how != cpioPlain && a.how != cpioGzip && a.how != cpioZstd {
		return nil, mustBuild("its compression, %s, is not known to be safe to extend", a.how)
	}
	if err := e.addModules(x, k, modules); err != nil {
		return nil, err
	}
	if err := e.addChanged(x); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(a.text)) {
		if a.modes[name].mode&cpioType != cpioRegular {
			continue
		}
		was, ok := x.files[name]
		if !ok {
			was = []byte(a.text[name])
		}
		now, err := tool.adapt(e, name, was)
		if err != nil {
			return nil, err
		}
		if string(now) != a.text[name] {
			if err := x.put(name, now); err != nil {
				return nil, err
			}
		}
	}
	return x, nil
}

// addModules adds the modules that are missing with those that they need, and the indexes by which they are found.
func (e *editor) addModules(x *extension, k Kernel, modules []string) error {
	dir := path.Join("/lib/modules", k.Release)
	files, err := dependencies(e.Tree, dir, modules)
	if err != nil {
		return err
	}
	have, suffix := map[string]bool{}, ""
	for name := range x.modes {
		if m := moduleName(name); m != "" && strings.Contains(name, "/modules/"+k.Release+"/") {
			have[m] = true
			suffix = name[strings.LastIndex(name, ".ko"):]
		}
	}
	added := false
	for _, file := range files {
		if have[moduleName(file)] {
			continue
		}
		if got := file[strings.LastIndex(file, ".ko"):]; suffix != "" && got != suffix {
			return mustBuild("its modules are packed as %s, those of the kernel as %s", suffix, got)
		}
		content, err := readLarge(e.Tree, path.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			return mustBuild("the module %s is not where the kernel's list has it", file)
		}
		if err != nil {
			return err
		}
		if err := x.put(path.Join(dir, file)[1:], content); err != nil {
			return err
		}
		added = true
	}
	if !added {
		return nil
	}
	for _, name := range indexes {
		content, err := readLarge(e.Tree, path.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			if name == "modules.dep.bin" || name == "modules.alias.bin" {
				return mustBuild("%s is missing", path.Join(dir, name))
			}
			continue
		}
		if err == nil {
			err = x.put(path.Join(dir, name)[1:], content)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readLarge reads a file that may be larger than what one edits.
func readLarge(t *tree.Tree, name string) ([]byte, error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxExtension+1))
	if err == nil && len(b) > maxExtension {
		err = mustBuild("%s is too large", name)
	}
	return b, err
}

// dependencies returns the files of modules and of all that these need, relative to the folder of the kernel's modules.
func dependencies(t *tree.Tree, dir string, modules []string) ([]string, error) {
	dep, err := readLarge(t, path.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	soft, err := readLarge(t, path.Join(dir, "modules.softdep"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, needs := map[string]string{}, map[string][]string{}
	for line := range strings.Lines(string(dep)) {
		name, list, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || moduleName(name) == "" {
			continue
		}
		file[moduleName(name)] = path.Clean("/" + name)[1:]
		for _, other := range strings.Fields(list) {
			needs[moduleName(name)] = append(needs[moduleName(name)], moduleName(other))
		}
	}
	for line := range strings.Lines(string(soft)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "softdep" {
			continue
		}
		name := strings.ReplaceAll(f[1], "-", "_")
		for _, other := range f[2:] {
			if other != "pre:" && other != "post:" {
				needs[name] = append(needs[name], strings.ReplaceAll(other, "-", "_"))
			}
		}
	}
	var list []string
	seen := map[string]bool{}
	for todo := slices.Clone(modules); len(todo) > 0; todo = todo[1:] {
		name := todo[0]
		if f := file[name]; f != "" && !seen[name] {
			seen[name] = true
			list = append(list, f)
			todo = append(todo, needs[name]...)
		}
	}
	slices.Sort(list)
	return list, nil
}

// addChanged adds the new versions of files of which the initramfs has a copy, whether this conversion changed them or an earlier one that
// was killed. A file that was removed becomes empty, which for all but LVM's list of devices means the same.
func (e *editor) addChanged(x *extension) error {
	for name, was := range x.text {
		if !strings.HasPrefix(name, "etc/") || x.modes[name].mode&cpioType != cpioRegular {
			continue
		}
		if _, err := e.Lstat(path.Join(backupDir, name)); err != nil {
			continue
		}
		now, err := e.ReadFile("/" + name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, "etc/lvm/devices/"):
			return mustBuild("it has %s", name)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case string(now) == was:
			continue
		}
		if err := x.put(name, now); err != nil {
			return err
		}
	}
	return nil
}

// pack makes the archive, compressed as the one before it is, which this kernel is known to unpack.
func (x *extension) pack() ([]byte, error) {
	var b bytes.Buffer
	folders := map[string]bool{}
	for name := range x.files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := x.modes[dir]; !ok {
				folders[dir] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(folders)) {
		writeCpio(&b, cpioEntry{name: name, mode: cpioFolder | 0o755, links: 2}, nil)
	}
	for _, name := range slices.Sorted(maps.Keys(x.files)) {
		mode := uint32(cpioRegular | 0o644)
		if have, ok := x.modes[name]; ok {
			mode = have.mode
		}
		writeCpio(&b, cpioEntry{name: name, mode: mode, links: 1}, x.files[name])
	}
	writeCpio(&b, cpioEntry{name: cpioTrailer, links: 1}, nil)
	switch x.how {
	case cpioGzip:
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, err := z.Write(b.Bytes())
		err = errors.Join(err, z.Close())
		return packed.Bytes(), err
	case cpioZstd:
		// The kernel sets memory for the window aside.
		z, err := zstd.NewWriter(nil, zstd.WithWindowSize(4<<20), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer func() { _ = z.Close() }()
		return z.EncodeAll(b.Bytes(), nil), nil
	}
	return b.Bytes(), nil
}

// append writes an initramfs and its extension to a new file.
func (e *editor) append(initramfs, out string, x *extension) error {
	more, err := x.pack()
	if err != nil {
		return err
	}
	in, err := e.Open(initramfs)
	if err != nil {
		return err
	}
	defer in.Close()
	return e.Replace(out, 0o600, func(f *os.File) error {
		n, err := io.Copy(f, in)
		if err != nil {
			return err
		}
		// An archive starts at a multiple of 4.
		_, err = f.Write(append(make([]byte, fill(uint64(n))), more...))
		return err
	})
}
