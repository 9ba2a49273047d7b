package fence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// processName tells the first process in the fence what it is. Nobody starts a program under this name by accident.
const processName = "openmigrate-fence"

// statusSetup is the exit status when the fence itself failed.
const statusSetup = 125

// A program that uses this package is started again by Run. That must not depend on its main function: one that has
// forgotten to ask would start a second hydrator as root.
func init() {
	if len(os.Args) == 1 && os.Args[0] == processName && os.Getpid() == 1 {
		os.Exit(first())
	}
}

// first is process 1 of the fence.
func first() int {
	b, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	var s setup
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err == nil {
		err = s.close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fence:", err)
		return statusSetup
	}
	return s.run()
}

// close shuts the fence: afterwards this process sees the system only.
func (s *setup) close() error {
	steps := []struct {
		what string
		do   func() error
	}{
		{"make mounts private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"enter the system", func() error { return unix.Chdir(s.Root) }},
		// The old root ends up above the new one at the same place, and goes.
		{"change root", func() error { return unix.PivotRoot(".", ".") }},
		{"leave the old root", func() error { return unix.Unmount(".", unix.MNT_DETACH) }},
		{"go to the root", func() error { return unix.Chdir("/") }},
		{"mount /proc", func() error {
			return mount("proc", "/proc", "proc", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}},
		{"mount /sys", func() error {
			return mount("sys", "/sys", "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "size=64k")
		}},
		{"mount /run", func() error { return mount("run", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=64m") }},
		{"mount /dev", devices},
		{"share " + s.Shared[0], func() error {
			if s.Shared[0] == "" {
				return nil
			}
			return mount(s.Shared[0], s.Shared[1], "", unix.MS_BIND, "")
		}},
		{"set host name", func() error { return unix.Sethostname([]byte("localhost")) }},
		{"set limits", limits},
		{"drop capabilities", dropCapabilities},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// mount makes the mount point if it is missing. Links of the system's lead nowhere but into it.
func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	return unix.Mount(source, target, fstype, flags, data)
}

// devices fills /dev with what no program can do harm with.
func devices() error {
	if err := mount("dev", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=1m"); err != nil {
		return err
	}
	old := unix.Umask(0)
	defer unix.Umask(old)
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := unix.Mknod(path.Join("/dev", name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return err
		}
	}
	if err := unix.Mknod("/dev/tty", unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0))); err != nil {
		return err
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, path.Join("/dev", name)); err != nil {
			return err
		}
	}
	return os.Mkdir("/dev/shm", 0o1777)
}

func limits() error {
	for what, limit := range map[int]uint64{
		unix.RLIMIT_CORE:   0,
		unix.RLIMIT_FSIZE:  4 << 30,
		unix.RLIMIT_NOFILE: 4096,
		unix.RLIMIT_AS:     8 << 30,
	} {
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	return nil
}

// kept are the capabilities that tools need which build an initramfs. CAP_DAC_READ_SEARCH is not among them: it opens any
// file of a mounted file system by its handle, outside of every root.
var kept = []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID,
	unix.CAP_SETUID, unix.CAP_SETFCAP}

// dropCapabilities takes them from whatever this thread starts; the thread itself keeps them, and does nothing with them.
func dropCapabilities() error {
	for c := 0; c <= 63; c++ {
		if slices.Contains(kept, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); errors.Is(err, unix.EINVAL) {
			break // the kernel has no more
		} else if err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// run starts the program and waits for it; processes that it leaves behind are reaped until then and die with us.
func (s *setup) run() int {
	null, err := os.Open("/dev/null")
	if err != nil {
		fmt.Fprintln(os.Stderr, "fence:", err)
		return statusSetup
	}
	pid, err := syscall.ForkExec(s.Args[0], s.Args, &syscall.ProcAttr{
		Dir: "/", Env: s.Env, Files: []uintptr{null.Fd(), 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "fence: start "+s.Args[0]+":", err)
		return statusSetup
	}
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "fence:", err)
			return statusSetup
		case got == pid && status.Exited():
			return status.ExitStatus()
		case got == pid:
			return 128 + int(status.Signal())
		}
	}
}
