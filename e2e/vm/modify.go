package vm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Modify returns an image with the root on ext4 to which Debian packages were added, and then what a script does that runs in its root, on this host and not in
// a machine: no service runs, and there is no network. The initramfs stays, unless the script makes it again. It is kept until base, packages or script change. It takes a fraction of what another Recipe takes, and
// needs root, and the mirror for packages.
func Modify(t testing.TB, base Image, packages []string, script string) Image {
	t.Helper()
	image, err := MakeModified(t.Context(), base, packages, script, t.Logf)
	fatal(t, "modify image", err)
	return image
}

// MakeModified is Modify for programs that are no tests.
func MakeModified(ctx context.Context, base Image, packages []string, script string, log func(format string, args ...any)) (Image, error) {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	cache, err := cacheDir()
	if err != nil {
		return Image{}, err
	}
	key := sha256.Sum256(mustJSON([]any{recipeVersion, filepath.Base(base.Path), packages, script, modifyScript}))
	image := Image{filepath.Join(cache, fmt.Sprintf("%x.img", key[:12]))}
	err = once(ctx, image.Path, func(dir string) (string, error) {
		began := time.Now()
		made := filepath.Join(dir, "disk")
		inside := filepath.Join(dir, "script")
		if err := os.WriteFile(inside, []byte(script), 0o600); err != nil {
			return "", err
		}
		// Mounts are in a name space of their own and end with it, whatever happens.
		_, err := command(ctx, "unshare", "--mount", "--propagation", "private", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive",
			"sh", "-eux", "-c", modifyScript, "sh", base.Path, made, fmt.Sprint(int64(rootStart)*mib), dir, strings.Join(packages, " "))
		log("image modified in %.0f s", time.Since(began).Seconds())
		return made, err
	})
	return image, err
}

// modifyScript gets base, image, the root's offset in bytes, a folder for all else, and packages. Packages are chosen by this host's apt for what the image has,
// and installed by it there, in an order that their dependencies allow.
const modifyScript = `
exec 1>&2
base=$1 image=$2 offset=$3 dir=$4 packages=$5
cp --sparse=always --reflink=auto "$base" "$image"
mkdir "$dir/root"
mount -o "loop,offset=$offset" "$image" "$dir/root"
mount -t proc proc "$dir/root/proc"
printf '#!/bin/sh\nexit 101\n' >"$dir/root/usr/sbin/policy-rc.d"
chmod 755 "$dir/root/usr/sbin/policy-rc.d"
if [ -n "$packages" ]; then
	mkdir -p "$dir/archives/partial"
	mount --bind "$dir/archives" "$dir/root/mnt"
	set -- apt-get -o Dir::State::status="$dir/root/var/lib/dpkg/status" -o Dir::Cache::archives="$dir/root/mnt" -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
		-o DPkg::Chroot-Directory="$dir/root" -o DPkg::Options::=--force-unsafe-io -y -q --no-install-recommends
	"$@" --download-only install $packages
	# Packages ask for a new initramfs when they are installed, which takes longer than all else.
	sed -i 's/^update_initramfs=yes/update_initramfs=no/' "$dir/root/etc/initramfs-tools/update-initramfs.conf"
	unshare --net "$@" --no-download install $packages
	sed -i 's/^update_initramfs=no/update_initramfs=yes/' "$dir/root/etc/initramfs-tools/update-initramfs.conf"
	umount "$dir/root/mnt"
fi
unshare --net chroot "$dir/root" sh -eux <"$dir/script"
rm "$dir/root/usr/sbin/policy-rc.d"
umount "$dir/root/proc"
umount "$dir/root"
`
