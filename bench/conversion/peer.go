package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/e2e/vm"
)

// peerPackages are virt-v2v, nbdkit by which it reads a disk, and what starts libguestfs alone. The kernel that libguestfs starts a machine with is the plain Debian's.
var peerPackages = []string{"virt-v2v", "nbdkit", "guestfish"}

const (
	peerSize  = 8192             // MiB, of the disk of that Debian
	peerLimit = 30 * time.Minute // ends a conversion that hangs
)

// peer is virt-v2v-in-place in a Debian of its own: it asks for a kernel and its modules where a system has them, and this one may have none.
type peer struct {
	image   string // a disk with that Debian, which is not written to
	tmp     string // its /var/tmp, where libguestfs keeps the machine that it has built
	version string
}

// preparePeer makes that Debian, once, and has libguestfs build its machine, which takes it long only the first time.
func (b *bench) preparePeer(ctx context.Context) (*peer, error) {
	plain, err := vm.Make(ctx, vm.Recipe{SizeMiB: peerSize}, b.Say)
	if err != nil {
		return nil, err
	}
	image, err := vm.MakeModified(ctx, plain, peerPackages, "", b.Say)
	if err != nil {
		return nil, err
	}
	p := &peer{image: image.Path, tmp: filepath.Join(b.o.cache, "libguestfs-"+strings.TrimSuffix(filepath.Base(image.Path), ".img"))}
	if err := os.MkdirAll(p.tmp, 0o755); err != nil {
		return nil, err
	}
	b.Say("warming libguestfs up")
	run, _, err := p.run(ctx, b.Dir, "guestfish", "-a", "/dev/null", "run")
	if err != nil {
		return nil, fmt.Errorf("start the machine of libguestfs: %w", err)
	}
	b.Say("its machine started in %.0f s", run.Wall.Seconds())
	_, out, err := p.run(ctx, b.Dir, "virt-v2v-in-place", "--version")
	p.version = strings.TrimSpace(string(out))
	return p, err
}

// convert runs it on a disk, as somebody would who has the disk of another hypervisor at hand.
func (p *peer) convert(ctx context.Context, disk string) (measure.Run, error) {
	run, _, err := p.run(ctx, filepath.Dir(disk), "virt-v2v-in-place", "-i", "disk", filepath.Join("/mnt", filepath.Base(disk)))
	return run, err
}

// inPeer gets the disk, its root's offset in bytes, a folder for /var/tmp, one that is at /mnt inside, and a command. Mounts and processes end with the shell's name spaces.
const inPeer = `
root=$(mktemp -d)
mount -o "loop,ro,noload,offset=$2" "$1" "$root"
mount --bind "$3" "$root/var/tmp"
mount --bind "$4" "$root/mnt"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t tmpfs dev "$root/dev"
for node in null zero full random urandom; do
	touch "$root/dev/$node"
	mount --bind "/dev/$node" "$root/dev/$node"
done
shift 4
status=0
chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg "$@" || status=$?
umount --recursive "$root"
rmdir "$root"
exit $status
`

func (p *peer) run(ctx context.Context, dir string, args ...string) (measure.Run, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-euc", inPeer, "sh", p.image,
		fmt.Sprint(vm.RootOffset), p.tmp, dir}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 30 * time.Second
	return measure.Command(cmd)
}
