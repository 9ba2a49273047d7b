package quiesce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The watchdog's descriptors: 3 is read for two-byte messages from the agent, 4 takes one byte 'r' when it is ready,
// and from 5 on stand the mount points. Messages: 'e' makes grace periods short (rcuFile), 'a' arms the deadline, 'f' i says that file system i is about to be
// frozen, 'u' i that this failed (it may be frozen by someone else, and is not ours to thaw), 'h' that a freeze lasts: it puts the deadline off and lets
// grace periods be as they were, 'd' that all is done.
//
//	start -> 'r' -> 'e' -> 'a' -> ('f' i ['u' i])... -> 'h'... -> 'd' -> exit
//	                        |-- deadline: thaw, and again every retry until 'd' or the end of the pipe
//	                        `-- end of the pipe (the agent died): thaw, exit
const (
	ctlFD   = 3
	readyFD = 4
	firstFD = 5
	retry   = 20 * time.Millisecond
	startup = 10 * time.Second
)

type watchdog struct {
	cmd *exec.Cmd
	ctl *os.File
}

func startWatchdog(argv []string, mounts []*os.File, limit time.Duration) (*watchdog, error) {
	w, err := spawn(argv, mounts, limit.String(), strconv.Itoa(len(mounts)))
	if err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	return w, nil
}

// spawn starts a helper, with a pipe to it as descriptor ctlFD, files from firstFD on and arguments after those of argv, and waits until it is ready.
func spawn(argv []string, files []*os.File, args ...string) (*watchdog, error) {
	if len(argv) == 0 {
		return nil, errors.New("no command")
	}
	ctlR, ctlW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		closeAll([]*os.File{ctlR, ctlW})
		return nil, err
	}
	defer closeAll([]*os.File{readyR})
	// No caller's context: a cancelled run must not kill the process that thaws.
	cmd := exec.CommandContext(context.Background(), argv[0], append(append([]string{}, argv[1:]...), args...)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what is sent to the agent's group does not end it
	cmd.ExtraFiles = append([]*os.File{ctlR, readyW}, files...)
	err = cmd.Start()
	closeAll([]*os.File{ctlR, readyW})
	if err != nil {
		closeAll([]*os.File{ctlW})
		return nil, err
	}
	w := &watchdog{cmd: cmd, ctl: ctlW}
	_ = readyR.SetReadDeadline(time.Now().Add(startup)) // a pipe always takes one
	var b [1]byte
	if _, err := io.ReadFull(readyR, b[:]); err != nil {
		_ = cmd.Process.Kill()
		return nil, errors.Join(fmt.Errorf("not ready: %w", err), w.stop(false))
	}
	return w, nil
}

// ready tells the agent that this helper is.
func ready() error {
	if _, err := os.NewFile(readyFD, "ready").Write([]byte{'r'}); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	return nil
}

func (w *watchdog) send(kind, i byte) error {
	if _, err := w.ctl.Write([]byte{kind, i}); err != nil {
		return fmt.Errorf("tell watchdog: %w", err)
	}
	return nil
}

// stop ends the watchdog and waits for it. Unless all was held and thawed, the watchdog thaws once more.
func (w *watchdog) stop(held bool) error {
	var err error
	if held {
		err = w.send('d', 0)
	}
	_ = w.ctl.Close()
	if werr := w.cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("watchdog: %w", werr))
	}
	return err
}

// WatchdogMain is the watchdog process: args are the limit and the number of file systems. It touches no file
// system but to thaw it. A single goroutine reads; it ends with the process.
func WatchdogMain(args []string) error {
	outlive()
	if len(args) > 0 && args[0] == guardVerb {
		return guardMain(args[1:])
	}
	if len(args) != 2 {
		return errors.New("watchdog: it is started by the agent only")
	}
	limit, err := time.ParseDuration(args[0])
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 0 || n > maxMounts {
		return fmt.Errorf("watchdog: bad number of file systems %.20q", args[1])
	}
	files := make([]*os.File, n)
	for i := range files {
		files[i] = os.NewFile(uintptr(firstFD+i), "mount")
	}
	rcu := openExpedite()
	defer rcu.stop()
	if err := lockMemory(); err != nil {
		return err
	}
	msgs := make(chan [2]byte)
	go func() {
		defer close(msgs)
		ctl := os.NewFile(ctlFD, "control")
		for {
			var m [2]byte
			if _, err := io.ReadFull(ctl, m[:]); err != nil {
				return
			}
			msgs <- m
		}
	}()
	if err := ready(); err != nil {
		return err
	}
	watch(files, limit, msgs, rcu)
	return nil
}

// outlive makes the requests to end go unheard that service managers send to all processes of a service when its main one dies: what is frozen
// then is thawed by this one. It ends with the pipe.
func outlive() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT) // not ignored: hooks would inherit that
}

func watch(files []*os.File, limit time.Duration, msgs <-chan [2]byte, rcu *expedite) {
	ours := make([]bool, len(files))
	var deadline <-chan time.Time
	for {
		select {
		case m, ok := <-msgs:
			switch {
			case !ok:
				thawOurs(files, ours)
				return
			case m[0] == 'd':
				return
			case m[0] == 'a':
				deadline = time.After(limit)
			case m[0] == 'e':
				rcu.start()
			case m[0] == 'h':
				deadline = time.After(limit)
				rcu.stop()
			case int(m[1]) < len(ours):
				ours[m[1]] = m[0] == 'f'
			}
		case <-deadline:
			// A stopped agent may go on to freeze the next one, so this is not over until it says so or dies.
			thawOurs(files, ours)
			rcu.stop()
			deadline = time.After(retry)
		}
	}
}

func thawOurs(files []*os.File, ours []bool) {
	for i := len(files) - 1; i >= 0; i-- {
		if ours[i] {
			_ = thaw(files[i]) // not frozen (any more) is what is wanted; the agent sees it at its own thaw
		}
	}
}
