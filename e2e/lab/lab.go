// Package lab runs the real programs against one another on this machine for whole-system tests: a master with its
// built-in staging, a hydrator and an agent, each a process that a test may kill at any moment, and the CLI.
//
// Everything listens on loopback and lives in one folder. Only processes that a Lab started are ever signalled.
package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var build struct {
	sync.Once
	dir string
	err error
}

// Binaries builds both programs once for the test process and returns their folder.
func Binaries(t testing.TB) string {
	t.Helper()
	build.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "openmigrate-bin-"); build.err != nil {
			return
		}
		cmd := exec.CommandContext(context.Background(), "go", "build", "-o", build.dir, "./cmd/...")
		cmd.Dir = Root()
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("build programs: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.dir
}

// RemoveBinaries is for TestMain, after the tests.
func RemoveBinaries() {
	if build.dir != "" {
		_ = os.RemoveAll(build.dir)
	}
}

// Root is the module's folder.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			panic("no go.mod above the working directory")
		}
		dir = parent
	}
}

// Lab is one installation. Its methods belong to the test's goroutine.
type Lab struct {
	t     testing.TB
	Bin   string // folder of the programs
	Dir   string
	Addr  string   // the master's
	env   []string // that the master wrote
	extra []string // for the programs
	name  string
	serve string // master, or dev

	procs map[string]*Proc
}

// Options change an installation.
type Options struct {
	Env     []string         // further environment for the programs
	Args    []string         // further flags of `openmigrate master`
	Dev     bool             // `openmigrate dev`, which is master and node in one, in place of the master
	Name    string           // under which agents elsewhere reach master and staging; the CLI goes to Lab.Addr all the same
	Prepare func(dir string) // is called before anything starts
}

// New makes an installation whose master is up.
func New(t testing.TB) *Lab {
	t.Helper()
	return NewWith(t, Options{})
}

// NewWith is New with options.
func NewWith(t testing.TB, o Options) *Lab {
	t.Helper()
	l := &Lab{t: t, Bin: Binaries(t), Dir: t.TempDir(), Addr: freeAddr(t), extra: o.Env, name: o.Name, serve: "master", procs: map[string]*Proc{}}
	if o.Dev {
		l.serve = "dev"
	}
	if o.Prepare != nil {
		o.Prepare(l.Dir)
	}
	t.Cleanup(func() {
		for _, name := range []string{"agent", "hydrator", "master"} {
			if p := l.procs[name]; p != nil {
				p.Stop()
			}
		}
		if t.Failed() {
			l.dumpLogs()
		}
	})
	l.StartMaster(o.Args...)
	return l
}

func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// Path is a path in the lab's folder.
func (l *Lab) Path(name string) string { return filepath.Join(l.Dir, name) }

// StartMaster starts the master, again after a kill, and waits until it answers.
func (l *Lab) StartMaster(args ...string) {
	l.t.Helper()
	envFile := l.Path("master/env")
	_ = os.Remove(envFile)
	if l.name != "" {
		args = append(slices.Clone(args), "--name", l.name)
	}
	p := l.start("master", "openmigrate", append([]string{l.serve, "--data-dir", l.Path("master"), "--listen", l.Addr}, args...)...)
	l.Eventually(90*time.Second, "master is ready", func() error {
		if p.Exited() {
			return fmt.Errorf("master ended: %s", p.tail(5))
		}
		_, err := os.Stat(envFile)
		return err
	})
	l.env = nil
	f, err := os.Open(envFile)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimPrefix(strings.TrimSpace(s.Text()), "export ")
		if name, value, ok := strings.Cut(line, "="); ok {
			if name == "OPENMIGRATE_URL" && l.name != "" {
				value = "https://" + l.Addr
			}
			l.env = append(l.env, name+"="+strings.Trim(value, "'\""))
		}
	}
}

// Rename starts the master anew, after a stop, under another name; "": under its address.
func (l *Lab) Rename(name string, args ...string) {
	l.t.Helper()
	l.name = name
	l.StartMaster(args...)
}

// MasterFails starts the master and expects it to end by itself with a message that matches want.
func (l *Lab) MasterFails(want string) {
	l.t.Helper()
	p := l.start("master", "openmigrate", "master", "--data-dir", l.Path("master"), "--listen", l.Addr)
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.Kill()
		l.t.Fatalf("the master runs although it should not: %s", p.tail(5))
	}
	if status := p.cmd.ProcessState.ExitCode(); status == 0 {
		l.t.Errorf("the master ended with status 0")
	}
	if !regexp.MustCompile(want).MatchString(p.tail(3)) {
		l.t.Errorf("the master says %q, want %q", p.tail(3), want)
	}
}

// Env returns one of the variables that the master wrote.
func (l *Lab) Env(name string) string {
	for _, e := range l.env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	l.t.Fatalf("the master's env file has no %s", name)
	return ""
}

// StartAgent starts the agent; the token counts at its first start only.
func (l *Lab) StartAgent(token string, disks ...string) *Proc {
	l.t.Helper()
	args := []string{"run", "--master", l.Env("OPENMIGRATE_URL"), "--token", token, "--name", "web1", "--state-dir", l.Path("agent")}
	for _, d := range disks {
		args = append(args, "--disk", d)
	}
	return l.start("agent", "openmigrate-agent", args...)
}

// StartHydrator starts a node; the token counts at its first start only.
func (l *Lab) StartHydrator(token string, more ...string) *Proc {
	l.t.Helper()
	return l.start("hydrator", "openmigrate", append([]string{"hydrator", "--master", l.Env("OPENMIGRATE_URL"), "--token", token, "--data-dir", l.Path("hydrator")}, more...)...)
}

// Token makes an enrolment token of a kind ("agent", "node").
func (l *Lab) Token(kind string) string {
	l.t.Helper()
	var token struct {
		Token string `json:"token"`
	}
	l.JSON(&token, "tokens", "enroll", "--kind", kind)
	return token.Token
}

// Proc returns a running process by name: master, hydrator, agent.
func (l *Lab) Proc(name string) *Proc { return l.procs[name] }

// StagingPID finds the S3 server that the master started.
func (l *Lab) StagingPID() (int, error) {
	master := l.procs["master"]
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", master.PID(), master.PID()))
	if err != nil {
		return 0, err
	}
	// The thread that forked it is any of the master's.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", master.PID()))
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		more, err := os.ReadFile(task)
		if err == nil {
			children = append(append(children, ' '), more...)
		}
	}
	for _, field := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(field); err == nil {
			return pid, nil
		}
	}
	return 0, errors.New("the master has no child process")
}

// CLI runs `openmigrate args…` and returns its standard output; a *CLIError holds the rest.
func (l *Lab) CLI(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(l.Bin, "openmigrate"), args...)
	cmd.Env = append(os.Environ(), l.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), &CLIError{Args: args, Status: cmd.ProcessState.ExitCode(), Stderr: stderr.String(), Err: err}
	}
	return stdout.Bytes(), nil
}

// Command prepares `openmigrate args…` for tests that want to kill it.
func (l *Lab) Command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), filepath.Join(l.Bin, "openmigrate"), args...)
	cmd.Env = append(os.Environ(), l.env...)
	return cmd
}

// JSON runs a command with -o json and decodes what it prints; a failure fails the test.
func (l *Lab) JSON(v any, args ...string) {
	l.t.Helper()
	out, err := l.CLI(append(args, "-o", "json")...)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := json.Unmarshal(out, v); err != nil {
		l.t.Fatalf("openmigrate %s printed no JSON: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Eventually calls try until it returns nil, and fails the test with its last error after limit.
func (l *Lab) Eventually(limit time.Duration, what string, try func() error) {
	l.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// CLIError is a command that failed.
type CLIError struct {
	Args   []string
	Status int
	Stderr string
	Err    error
}

func (e *CLIError) Error() string {
	return fmt.Sprintf("openmigrate %s: %v: %s", strings.Join(e.Args, " "), e.Err, strings.TrimSpace(e.Stderr))
}

func (e *CLIError) Unwrap() error { return e.Err }

func (l *Lab) dumpLogs() {
	logs, _ := filepath.Glob(l.Path("*.log"))
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if len(b) > 6000 {
			b = b[len(b)-6000:]
		}
		l.t.Logf("end of %s:\n%s", filepath.Base(name), b)
	}
}

// Proc is a program of the lab.
type Proc struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

func (l *Lab) start(name, program string, args ...string) *Proc {
	l.t.Helper()
	logName := l.Path(name + ".log")
	logFile, err := os.OpenFile(logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	defer logFile.Close()
	cmd := exec.CommandContext(context.Background(), filepath.Join(l.Bin, program), args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Env = append(append(os.Environ(), "OPENMIGRATE_TOKEN="), l.extra...)
	// A test that is killed leaves nothing behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	p := &Proc{t: l.t, cmd: cmd, log: logName, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	l.procs[name] = p
	return p
}

// PID is the process's.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Exited reports whether the process ended.
func (p *Proc) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Kill ends the process as a power cut would and waits until it is gone.
func (p *Proc) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the process to end and returns its exit status.
func (p *Proc) Stop() int {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Errorf("%s did not stop within 30 s of SIGTERM", filepath.Base(p.cmd.Path))
		p.Kill()
	}
	return p.cmd.ProcessState.ExitCode()
}

// tail is the last n lines of the log.
func (p *Proc) tail(n int) string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Wait waits for the process to end by itself and returns its exit status.
func (p *Proc) Wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Errorf("%s did not end within %v", filepath.Base(p.cmd.Path), limit)
		p.Kill()
	}
	return p.cmd.ProcessState.ExitCode()
}

// Port is the port of an address.
func Port(t testing.TB, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
