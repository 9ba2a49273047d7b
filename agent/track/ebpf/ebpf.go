// Package ebpf tracks what is written to disks with programs on the kernel's block tracepoints, with no kernel module.
//
// A write is marked when it is queued, when it is issued to the device, and when it completes, in the bitmap of the epoch that
// is then. All of it is pinned in bpffs, so tracking goes on while no agent runs. What cannot be proven to be seen is reported as
// lost, and read whole. DESIGN.md says what is proven, and how. Methods belong to one goroutine, as track.Tracker says.
package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/track"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -target bpfel -go-package ebpf -output-stem programs -cflags "-O2 -g -Wall -Werror -mcpu=v3" programs bpf/track.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -target bpfel -go-package ebpf -output-stem held -output-suffix _test -no-global-types -cflags "-O2 -g -Wall -Werror -mcpu=v3" held bpf/held.bpf.c

// DefaultRoot is where pins are kept, one directory for each instance.
const DefaultRoot = "/sys/fs/bpf/openmigrate"

// Options say what a tracker is called and where it keeps its pins.
type Options struct {
	// Instance is the machine's id or another name that no other agent on this host has.
	Instance string
	// Root is the directory for pins, on a bpffs; DefaultRoot if empty.
	Root string
	// Anew says why what is pinned does not count, and is replaced: the disks are scanned once for this reason. Empty: it counts.
	Anew string
}

var instanceName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Open loads the programs, or finds those that an agent before pinned. An error says, in words for an operator, why this system cannot
// be tracked; the caller scans instead.
func Open(opts Options) (track.Tracker, error) {
	t, err := open(opts)
	if err != nil {
		return nil, fmt.Errorf("track writes with eBPF: %w: the disks are scanned", err)
	}
	return t, nil
}

func open(opts Options) (*tracker, error) {
	if !instanceName.MatchString(opts.Instance) {
		return nil, fmt.Errorf("instance name %q is not letters, digits, - and _", opts.Instance)
	}
	if opts.Root == "" {
		opts.Root = DefaultRoot
	}
	if err := supported(); err != nil {
		return nil, err
	}
	if err := mountBPF(filepath.Dir(opts.Root)); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift the limit of locked memory: %w", err)
	}
	dir := filepath.Join(opts.Root, opts.Instance)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of pins: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		lock.Close()
		return nil, err
	}
	var k *kernel
	var m *meta
	why := opts.Anew
	if why == "" {
		k, m, why = reattach(dir, opts.Instance, boot)
	}
	if k == nil {
		k, err = attach(dir)
		if err != nil {
			lock.Close()
			return nil, err
		}
		m = k.meta(opts.Instance, boot)
		m.First = why
	}
	t := &tracker{lock: lock, kernel: k, meta: m, disks: map[string]*disk{}, refused: map[string]string{}}
	if err := t.recover(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// supported says in plain words what the kernel has not.
func supported() error {
	if os.Geteuid() != 0 {
		return errors.New("the agent does not run as root")
	}
	release := kernelRelease()
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("kernel %s has no type information (CONFIG_DEBUG_INFO_BTF)", release)
	}
	for _, event := range []string{"bio_queue", "bio_complete", "rq_issue", "rq_complete"} {
		var def *btf.Typedef
		if err := spec.TypeByName("btf_trace_block_"+event, &def); err != nil {
			return fmt.Errorf("kernel %s has no tracepoint block_%s that a program can use", release, event)
		}
		ptr, ok := def.Type.(*btf.Pointer)
		if !ok {
			return fmt.Errorf("kernel %s has an unknown form of tracepoint block_%s", release, event)
		}
		proto, ok := ptr.Target.(*btf.FuncProto)
		arg := 1 // the first is the tracepoint's own data
		if event == "bio_complete" {
			arg = 2
		}
		want := "request"
		if strings.HasPrefix(event, "bio") {
			want = "bio"
		}
		if !ok || len(proto.Params) <= arg || !pointsTo(proto.Params[arg].Type, want) {
			return fmt.Errorf("kernel %s has an unknown form of tracepoint block_%s (known ones are since Linux 5.12)", release, event)
		}
	}
	return nil
}

func pointsTo(t btf.Type, name string) bool {
	ptr, ok := t.(*btf.Pointer)
	return ok && ptr.Target.TypeName() == name
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "(unknown)"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// mountBPF makes sure that dir is a bpffs. Of several agents that start at once one only mounts it: a second mount would hide the pins of the first.
func mountBPF(dir string) error {
	lock, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("find the BPF file system: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("find the BPF file system: %w", err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount a BPF file system at %s: %w", dir, err)
	}
	return nil
}

// lockDir makes sure that one agent only uses the pins.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of pins: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s (does another agent run?): %w", dir, err)
	}
	return f, nil
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot's id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// verifierError shortens what the kernel says of a program that it does not take.
func verifierError(err error) error {
	var v *ebpf.VerifierError
	if errors.As(err, &v) {
		return fmt.Errorf("kernel %s does not take the programs: %w", kernelRelease(), v.Cause)
	}
	return fmt.Errorf("kernel %s does not take the programs: %w", kernelRelease(), err)
}
