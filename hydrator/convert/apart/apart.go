// Package apart looks at systems and converts them in a process of its own, which is this program, started again.
//
// A hostile image meets parsers, the kernel's file systems and its own programs there, and what they do to the process ends one job.
// Whoever ends it, by a signal or by dying, has the kernel take down all that it had: mounts live in a name space of its own, loop
// devices have AUTOCLEAR, programs are fenced. And a disk may be a file that the caller itself serves (package fuse): a process must not
// wait for its own answers while it can be killed.
//
//	caller ── request (stdin), disks (descriptors) ──► child: Detect, Check, Convert
//	       ◄── lines of JSON (stdout): steps, then one answer ──
package apart

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/hydrator/convert"
)

// Disk is one disk of the machine: an open file or block device, or a file in an open folder.
type Disk struct {
	File *os.File // stays the caller's
	Name string   // in the folder; "": File is the disk
}

// Options change how it is done. nil is the zero value.
type Options struct {
	Dir      string            // a folder for mount points, which are gone in the end; "": the system's for temporary files
	Progress func(step string) // called before each step, by the caller's goroutine
	Convert  convert.Options   // Progress in it is not looked at
}

const (
	processName = "openmigrate-convert"

	modeProbe   = "probe"
	modeInspect = "inspect"
	modeConvert = "convert"

	maxRequest = 1 << 20
	maxLine    = 4 << 20  // bytes of one line of the child's
	maxStderr  = 16 << 10 // of what it says when it dies
	stopTime   = 15 * time.Second
)

type request struct {
	Mode   string
	Disks  []string
	Target *convert.Target
	Limit  convertOptions
}

// convertOptions is convert.Options as JSON has it.
type convertOptions struct {
	Timeout time.Duration
	Scratch int64
}

// answer is one line.
type answer struct {
	Step    string          `json:",omitempty"` // what begins; then nothing else is set
	Done    bool            `json:",omitempty"` // the last line
	System  *convert.System `json:",omitempty"`
	Report  *convert.Report `json:",omitempty"`
	Refused bool            `json:",omitempty"` // Error is a convert.ErrRefused
	Error   string          `json:",omitempty"`
}

// refusal has the child's words and convert's sentinel.
type refusal string

func (r refusal) Error() string        { return string(r) }
func (r refusal) Is(target error) bool { return target == convert.ErrRefused }

// Inspect is convert.Detect and, when target is not nil, convert.Check.
func Inspect(ctx context.Context, disks []Disk, target *convert.Target, o *Options) (*convert.System, error) {
	a, err := run(ctx, modeInspect, disks, target, o)
	return a.System, err
}

// Convert is convert.Detect and convert.Convert. When ctx ends the child is asked to stop and killed if it does not: what it had mounted and
// attached is gone when Convert returns.
func Convert(ctx context.Context, disks []Disk, target convert.Target, o *Options) (*convert.System, *convert.Report, error) {
	a, err := run(ctx, modeConvert, disks, &target, o)
	return a.System, a.Report, err
}

// Probe tries whether this process may do what Inspect and Convert need: mounts of its own and a loop device, on the disk that is given.
func Probe(ctx context.Context, disk Disk, o *Options) error {
	_, err := run(ctx, modeProbe, []Disk{disk}, nil, o)
	return err
}

func run(ctx context.Context, mode string, disks []Disk, target *convert.Target, o *Options) (answer, error) {
	if o == nil {
		o = &Options{}
	}
	dir, err := os.MkdirTemp(o.Dir, "openmigrate-convert-")
	if err == nil {
		dir, err = filepath.Abs(dir) // the child has another working directory
	}
	if err != nil {
		return answer{}, fmt.Errorf("make folder for mount points: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // empty folders: nothing of the child's was mounted where we see it
	r := request{Mode: mode, Target: target, Limit: convertOptions{o.Convert.Timeout, o.Convert.Scratch}}
	var files []*os.File
	for _, d := range disks {
		path := fmt.Sprintf("/proc/self/fd/%d", 3+len(files))
		if d.Name != "" {
			path = filepath.Join(path, d.Name)
		}
		r.Disks, files = append(r.Disks, path), append(files, d.File)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return answer{}, err
	}
	c := &child{dir: dir, request: b, files: files, progress: o.Progress}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The child dies with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		c.run(ctx)
	}()
	<-done
	return c.last, c.err
}

// child is one run.
type child struct {
	dir      string
	request  []byte
	files    []*os.File
	progress func(string)

	last answer
	err  error
}

func (c *child) run(ctx context.Context) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{processName}
	cmd.Env = []string{"TMPDIR=" + c.dir, "GOTRACEBACK=single"}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(c.request)
	cmd.ExtraFiles = c.files
	stderr := &head{limit: maxStderr}
	cmd.Stderr = stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = stopTime
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setsid: true}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		c.err = fmt.Errorf("start the process that converts: %w", err)
		return
	}
	readErr := c.read(out)
	if readErr != nil {
		_ = cmd.Process.Kill()
	}
	waitErr := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		c.err = context.Cause(ctx)
	case c.last.Refused:
		c.err = refusal(c.last.Error)
	case c.last.Error != "":
		c.err = errors.New(c.last.Error)
	case c.last.Done && waitErr == nil:
	default:
		c.err = fmt.Errorf("the process that converts ended early: %w: %s", errors.Join(readErr, waitErr), strings.TrimSpace(stderr.String()))
	}
}

func (c *child) read(out io.Reader) error {
	s := bufio.NewScanner(out)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		var a answer
		if err := json.Unmarshal(s.Bytes(), &a); err != nil {
			return fmt.Errorf("read its answer: %w", err)
		}
		switch {
		case a.Done:
			c.last = a
		case c.progress != nil:
			c.progress(a.Step)
		}
	}
	return s.Err()
}

// head keeps the beginning of what is written to it.
type head struct {
	limit int
	b     []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), h.limit-len(h.b))]...)
	return len(p), nil
}

func (h *head) String() string { return string(h.b) }
