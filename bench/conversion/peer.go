package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
)

// peerPackages are virt-v2v with all that it needs of Debian's: libguestfs makes the machine in which it converts of the kernel and programs beside it.
var peerPackages = []string{"virt-v2v", "guestfish", "linux-image-amd64"}

// peerLimit ends a conversion that hangs.
const peerLimit = 30 * time.Minute

// peer is virt-v2v-in-place in a Debian of its own: it asks for a kernel and its modules where a system has them, and this one may have none.
type peer struct {
	root    string
	version string
}

// preparePeer makes that Debian, once, and has libguestfs build its machine, which takes it long only the first time.
func (b *bench) preparePeer(ctx context.Context) (*peer, error) {
	key := sha256.Sum256([]byte(strings.Join(peerPackages, " ")))
	p := &peer{root: filepath.Join(b.o.cache, fmt.Sprintf("virt-v2v-%x", key[:6]))}
	if _, err := os.Stat(p.root); errors.Is(err, os.ErrNotExist) {
		b.say("making a Debian with virt-v2v")
		if err := os.MkdirAll(b.o.cache, 0o755); err != nil {
			return nil, err
		}
		if err := makeDebian(ctx, p.root); err != nil {
			return nil, fmt.Errorf("make a Debian with virt-v2v: %w", err)
		}
	}
	b.say("warming libguestfs up")
	if _, _, err := p.run(ctx, b.work, "guestfish", "-a", "/dev/null", "run"); err != nil {
		return nil, fmt.Errorf("start the machine of libguestfs: %w", err)
	}
	_, out, err := p.run(ctx, b.work, "virt-v2v-in-place", "--version")
	p.version = strings.TrimSpace(string(out))
	return p, err
}

// makeDebian fills a folder, which is there only when it is whole. Mounts that mmdebstrap makes are in a name space of its own and end with it.
func makeDebian(ctx context.Context, dir string) error {
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	cmd, err := measure.Tool(ctx, "unshare", "--mount", "--propagation", "private", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "mmdebstrap", "--mode=root", "--variant=minbase", "--quiet",
		"--dpkgopt=force-unsafe-io", "--include="+strings.Join(peerPackages, ","), "bookworm", tmp)
	if err != nil {
		return err
	}
	if _, _, err := measure.Command(cmd); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

// convert runs it on a disk, as somebody would who has the disk of another hypervisor at hand.
func (p *peer) convert(ctx context.Context, disk string) (measure.Run, error) {
	run, _, err := p.run(ctx, filepath.Dir(disk), "virt-v2v-in-place", "-i", "disk", filepath.Join("/mnt", filepath.Base(disk)))
	return run, err
}

// inPeer gets the root, a folder that is at /mnt inside, and a command. Mounts and processes end with the shell's name spaces.
const inPeer = `
mount --bind "$2" "$1/mnt"
mount -t proc proc "$1/proc"
mount -t tmpfs -o mode=1777 tmp "$1/tmp"
root=$1
shift 2
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg "$@"
`

func (p *peer) run(ctx context.Context, dir string, args ...string) (measure.Run, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-euc", inPeer, "sh", p.root, dir}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 30 * time.Second
	return measure.Command(cmd)
}
