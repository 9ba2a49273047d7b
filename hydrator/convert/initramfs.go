package convert

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/fence"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// initramfsTool is a program of the system's that makes an initramfs. To add one, implement this and append it to
// initramfsTools.
type initramfsTool interface {
	name() string
	installed(*tree.Tree) bool

	// file is where the initramfs of a kernel is. Pkgbase is the kernel's package on Arch, or "".
	file(t *tree.Tree, release, pkgbase string) string

	// configure makes the tool put these modules into every initramfs that it makes from now on, for kernels that are
	// installed later, too.
	configure(e *editor, modules []string) error

	// command makes the initramfs of a kernel in the file out.
	command(t *tree.Tree, release, out string) []string

	// adapt returns what a file in an initramfs, by its name there, has to hold on the target; most stay as they are. The error is
	// errBuild if that cannot be said.
	adapt(e *editor, name string, content []byte) ([]byte, error)
}

// initramfsTools in the order of preference: Debian can have dracut's programs beside its own.
var initramfsTools = []initramfsTool{debianInitramfs{}, mkinitcpio{}, dracut{}}

const (
	whyModules = "the initramfs has the drivers of the target"
	scratch    = "/tmp" // of the fence, in memory
)

// convertInitramfs brings the drivers into the initramfs of every kernel that is not yet as it must be.
func convertInitramfs(ctx context.Context, e *editor) error {
	var tool initramfsTool
	for _, i := range initramfsTools {
		if i.name() == e.system.Initramfs {
			tool = i
		}
	}
	need := map[string][]string{}
	var all []string
	for _, k := range e.system.Kernels {
		m, err := readModules(e.Tree, k.Release)
		if err != nil {
			return err
		}
		list, err := drivers(k, m, e.target)
		if err != nil {
			e.warn("%v", err) // check has found a kernel that can
			continue
		}
		if p := platforms[e.target.Platform]; !hasNIC(m, p) {
			e.warn("kernel %s has no driver for the network cards of %s", k.Release, p.name)
		}
		need[k.Release] = list
		for _, name := range list {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	if err := tool.configure(e, all); err != nil {
		return err
	}
	for _, k := range e.system.Kernels {
		list, ok := need[k.Release]
		if !ok || e.built(k, list) {
			continue
		}
		if err := e.build(ctx, tool, k, list); err != nil {
			return fmt.Errorf("build initramfs of kernel %s: %w", k.Release, err)
		}
	}
	return nil
}

// stamp tells which initramfs a conversion has built, and with which modules.
func (e *editor) stamp(k Kernel, modules []string) ([]byte, error) {
	f, err := e.Open(k.Initramfs)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%x %s\n", h.Sum(nil), strings.Join(modules, " ")), nil
}

func stampFile(k Kernel) string { return path.Join(stampDir, k.Release) }

// built reports whether the initramfs is the one that the last conversion built, and nothing was changed since.
func (e *editor) built(k Kernel, modules []string) bool {
	have, err := e.ReadFile(stampFile(k))
	if err != nil {
		return false
	}
	want, err := e.stamp(k, modules)
	return err == nil && string(have) == string(want)
}

// build brings the drivers into the initramfs of a kernel: behind what is in it, or else in a new one. It is made in memory, and only when the
// drivers are in it put where the boot loader finds it.
func (e *editor) build(ctx context.Context, tool initramfsTool, k Kernel, modules []string) error {
	if err := e.begin(); err != nil {
		return err
	}
	out := scratch + "/openmigrate-initramfs"
	if err := e.Remove(out); err != nil {
		return err
	}
	action, why := "extended", whyModules
	x, err := e.extension(k, tool, modules)
	said := ""
	switch {
	case errors.Is(err, errBuild):
		action, why = "built", whyModules+"; "+err.Error()
		said, err = fence.Run(ctx, fence.Command{Root: e.dir, Args: tool.command(e.Tree, k.Release, out), Timeout: e.options.Timeout,
			Shared: [2]string{scratch, "/var/tmp"}})
	case err == nil && len(x.files) > 0:
		err = e.append(k.Initramfs, out, x)
	case err == nil:
		out = "" // it has all
	}
	if err != nil {
		return err
	}
	if out != "" {
		a, err := e.readInitramfs(ctx, out)
		if err != nil {
			return fmt.Errorf("read what was made: %w", err)
		}
		have := a.modules()
		if missing := slices.DeleteFunc(slices.Clone(modules), func(m string) bool { return have[m] }); len(missing) > 0 {
			return fmt.Errorf("%s left out the modules %s; it said:\n%s", tool.name(), strings.Join(missing, ", "), strings.TrimSpace(said))
		}
		if err := e.install(out, k.Initramfs, action, why); err != nil {
			return err
		}
	}
	stamp, err := e.stamp(k, modules)
	if err != nil {
		return err
	}
	return e.WriteFile(stampFile(k), stamp, 0o644)
}

// extension is what the initramfs of a kernel lacks.
func (e *editor) extension(k Kernel, tool initramfsTool, modules []string) (*extension, error) {
	a, err := e.parseInitramfs(k.Initramfs)
	if err != nil {
		return nil, mustBuild("%w", err)
	}
	if _, ok := a.modes["init"]; !ok {
		return nil, mustBuild("it has no init")
	}
	return e.extend(a, tool, k, modules)
}

// install replaces an initramfs. The old one is kept if there is room.
func (e *editor) install(from, to, action, why string) error {
	in, err := e.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	kept := ""
	switch old, err := e.Stat(to); {
	case err == nil:
		if free, err := e.Free("/var/lib"); err == nil && free > 8*old.Size() {
			if kept, err = e.backup(to); err != nil {
				return err
			}
		} else {
			e.warn("the old %s was not kept: there is no room for it", to)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if free, err := e.Free(path.Dir(to)); err == nil && free < info.Size()+1<<20 {
		if kept == "" {
			return fmt.Errorf("there is no room for %d MiB in %s: remove an old kernel on the source, replicate, and try again", info.Size()>>20+1, path.Dir(to))
		}
		// The old one is safe, so the new one may take its place.
		if err := e.Remove(to); err != nil {
			return err
		}
	}
	sum := sha1.New()
	err = e.Replace(to, 0o600, func(f *os.File) error {
		_, err := io.Copy(io.MultiWriter(f, sum), in)
		return err
	})
	if err != nil {
		return err
	}
	e.report.Changes = append(e.report.Changes, Change{to, action, why, kept})
	// Debian's tool does not touch an initramfs again that it does not know.
	known := "/var/lib/initramfs-tools/" + strings.TrimPrefix(base(to), "initrd.img-")
	if e.Exists(known) {
		return e.WriteFile(known, fmt.Appendf(nil, "%x  %s\n", sum.Sum(nil), to), 0o644)
	}
	return nil
}
