package vm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recipeVersion changes when the same Recipe should give other packages, diskVersion when another disk of the same packages.
const (
	recipeVersion = 1
	diskVersion   = 1
)

// buildLimit bounds the making of one image, which took 167 s on two processors with other work.
const buildLimit = 45 * time.Minute

// basePackages make a machine that boots, has LVM and can be talked to.
var basePackages = []string{
	"linux-image-amd64", "systemd-sysv", "dbus", "udev", "kmod", "initramfs-tools", "zstd", "lvm2", "e2fsprogs", "iproute2",
}

// Build returns the image of a recipe and makes it when the cache has none. It is kept until its recipe or the program
// in guest changes; newer Debian packages do not replace it.
func Build(t testing.TB, r Recipe) Image {
	t.Helper()
	r = r.withDefaults()
	ctx, cancel := context.WithTimeout(t.Context(), buildLimit)
	defer cancel()
	image, err := build(ctx, t.TempDir(), r, t.Logf, func(d *disk) error { return d.installLVM(ctx, t, r) })
	fatal(t, "build image", err)
	return image
}

// Make is Build for programs that are no tests. It does not make images with LVM, for which a machine must run.
func Make(ctx context.Context, r Recipe, log func(format string, args ...any)) (Image, error) {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	tmp, err := os.MkdirTemp("", "openmigrate-vm-")
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	return build(ctx, tmp, r.withDefaults(), log, func(*disk) error { return errors.New("only a test makes images with LVM") })
}

func (r Recipe) withDefaults() Recipe {
	if r.Root == "" {
		r.Root = Ext4
	}
	if r.SizeMiB == 0 {
		r.SizeMiB = 2048
		if r.Root == LVM {
			r.SizeMiB = 3072
		}
	}
	return r
}

func build(ctx context.Context, tmp string, r Recipe, log func(format string, args ...any), installLVM func(*disk) error) (Image, error) {
	cache, err := cacheDir()
	if err != nil {
		return Image{}, err
	}
	guest, err := guestProgram(ctx, tmp)
	if err != nil {
		return Image{}, err
	}
	key, err := recipeKey(r, guest)
	if err != nil {
		return Image{}, err
	}
	image := Image{filepath.Join(cache, key+".img")}
	err = once(ctx, image.Path, func(dir string) (string, error) {
		began := time.Now()
		d := newDisk(filepath.Join(dir, "disk"), key, r)
		var err error
		if r.Root == LVM {
			err = installLVM(d)
		} else {
			err = d.install(ctx, filepath.Join(dir, "root"), guest, r)
		}
		log("image %s (%s) made in %.0f s", key, r.Root, time.Since(began).Seconds())
		return d.path, err
	})
	return image, err
}

// once makes a file of the cache unless it is there. create gets an empty folder, which is removed afterwards, and returns
// the name of what it made there; of several processes one creates it and the others wait.
func once(ctx context.Context, path string, create func(dir string) (string, error)) error {
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("making a root file system needs root: run the tests as root once, or share its OPENMIGRATE_CACHE")
	}
	dir := path + ".build"
	// What a process left that was killed is removed before and not only after.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	made, err := create(dir)
	if err != nil {
		return err
	}
	return os.Rename(made, path)
}

// recipeKey names an image by all that went into it.
func recipeKey(r Recipe, guest string) (string, error) {
	f, err := os.Open(guest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	fmt.Fprintf(h, "%d.%d %s\n", recipeVersion, diskVersion, mustJSON(r))
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:12]), nil
}

// lock waits for an exclusive lock, which ends with the process at the latest.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	again := time.NewTicker(pollPause)
	defer again.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, errors.Join(ctx.Err(), err))
		}
	}
}

// bootstrap returns an archive of Debian's packages with what they set up, all that needs the mirror. It is kept apart
// from the images, which change with the program in guest. Mounts that mmdebstrap makes are in a name space of its own
// and end with it, whatever happens.
func bootstrap(ctx context.Context, cache string, r Recipe) (string, error) {
	packages := append(basePackages[:len(basePackages):len(basePackages)], r.Packages...)
	key := sha256.Sum256(mustJSON([]any{recipeVersion, packages, r.Modules}))
	archive := filepath.Join(cache, fmt.Sprintf("%x.tar", key[:12]))
	initramfs := `mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"; `
	if len(r.Modules) == 0 {
		initramfs += `echo MODULES=most >"$1/etc/initramfs-tools/conf.d/vm"`
	} else {
		initramfs += `echo MODULES=list >"$1/etc/initramfs-tools/conf.d/vm"; printf '%s\n' ` + strings.Join(r.Modules, " ") +
			` >"$1/usr/share/initramfs-tools/modules.d/vm"`
	}
	return archive, once(ctx, archive, func(dir string) (string, error) {
		made := filepath.Join(dir, "root.tar")
		// Every package goes through a program in Python, which should be the system's and not one that has to be looked for. Nothing need survive a power cut.
		_, err := command(ctx, "unshare", "--mount", "--propagation", "private", "env", "TMPDIR="+dir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
			"mmdebstrap", "--mode=root", "--variant=minbase", "--quiet", "--dpkgopt=force-unsafe-io",
			"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
			"--include="+strings.Join(packages, ","), "--essential-hook="+initramfs, "bookworm", made)
		return made, err
	})
}

// makeRoot fills dir with Debian and with what makes it this disk's.
func makeRoot(ctx context.Context, dir, guest string, d *disk, r Recipe) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	archive, err := bootstrap(ctx, cache, r)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if _, err := command(ctx, "tar", "--extract", "--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*",
		"--file", archive, "--directory", dir); err != nil {
		return err
	}
	program, err := os.ReadFile(guest)
	if err != nil {
		return err
	}
	grubCfg, err := d.grubCfg(dir)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{"usr/local/sbin/vm-guest", string(program), 0o755},
		{"boot/grub/grub.cfg", grubCfg, 0o600},
		{"etc/fstab", d.fstab(), 0o644},
		{"etc/hostname", "vm\n", 0o644},
		{"etc/hosts", "127.0.0.1 localhost\n127.0.1.1 vm\n", 0o644},
		{"etc/machine-id", d.key + "00000000\n", 0o444},
		{"etc/systemd/network/80-dhcp.network", "[Match]\nType=ether\n[Network]\nDHCP=yes\n", 0o644},
		{"etc/systemd/system/vm-guest.service", guestUnit, 0o644},
	} {
		name := filepath.Join(dir, f.name)
		_ = os.Remove(name) // debootstrapped files may be links or read-only
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	wants := filepath.Join(dir, "etc/systemd/system/multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	for _, unit := range []string{"/lib/systemd/system/systemd-networkd.service", "/etc/systemd/system/vm-guest.service"} {
		if err := os.Symlink(unit, filepath.Join(wants, filepath.Base(unit))); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return openRoot(filepath.Join(dir, "etc/shadow"))
}

const guestUnit = `[Unit]
Description=commands of a test over virtio-serial
[Service]
ExecStart=/usr/local/sbin/vm-guest serve
Restart=always
OOMScoreAdjust=-900
[Install]
WantedBy=multi-user.target
`

// openRoot lets root in on the console without a password. Nothing of a machine listens on a network.
func openRoot(shadow string) error {
	b, err := os.ReadFile(shadow)
	if err != nil {
		return err
	}
	text := strings.Replace(string(b), "root:*:", "root::", 1)
	return os.WriteFile(shadow, []byte(text), 0o640)
}
