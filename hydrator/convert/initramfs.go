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
}

// initramfsTools in the order of preference: Debian can have dracut's programs beside its own.
var initramfsTools = []initramfsTool{debianInitramfs{}, mkinitcpio{}, dracut{}}

const (
	whyModules = "the initramfs has the drivers of the target"
	scratch    = "/tmp" // of the fence, in memory
)

// convertInitramfs builds the initramfs of every kernel again that is not yet as it must be.
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

// build makes an initramfs in memory, checks that the drivers are in it, and only then puts it where the boot loader finds it.
func (e *editor) build(ctx context.Context, tool initramfsTool, k Kernel, modules []string) error {
	if err := e.begin(); err != nil {
		return err
	}
	out := scratch + "/openmigrate-initramfs"
	if err := e.Remove(out); err != nil {
		return err
	}
	said, err := fence.Run(ctx, fence.Command{Root: e.dir, Args: tool.command(e.Tree, k.Release, out), Timeout: e.options.Timeout,
		Shared: [2]string{scratch, "/var/tmp"}})
	if err != nil {
		return err
	}
	content, err := e.listInitramfs(ctx, out)
	if err != nil {
		return fmt.Errorf("read what %s made: %w", tool.name(), err)
	}
	if missing := slices.DeleteFunc(slices.Clone(modules), func(m string) bool { return content[m] }); len(missing) > 0 {
		return fmt.Errorf("%s left out the modules %s; it said:\n%s", tool.name(), strings.Join(missing, ", "), strings.TrimSpace(said))
	}
	if err := e.install(out, k.Initramfs); err != nil {
		return err
	}
	stamp, err := e.stamp(k, modules)
	if err != nil {
		return err
	}
	return e.WriteFile(stampFile(k), stamp, 0o644)
}

// install replaces an initramfs. The old one is kept if there is room.
func (e *editor) install(from, to string) error {
	in, err := e.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	kept, action := "", "created"
	switch old, err := e.Stat(to); {
	case err == nil:
		action = "built"
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
	e.report.Changes = append(e.report.Changes, Change{to, action, whyModules, kept})
	// Debian's tool does not touch an initramfs again that it does not know.
	known := "/var/lib/initramfs-tools/" + strings.TrimPrefix(base(to), "initrd.img-")
	if e.Exists(known) {
		return e.WriteFile(known, fmt.Appendf(nil, "%x  %s\n", sum.Sum(nil), to), 0o644)
	}
	return nil
}
