// Package pgtest runs Debian's PostgreSQL for tests: a server in a folder, by an unprivileged user, reached by a unix socket, and clients
// that commit without end.
package pgtest

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is one server. Its methods belong to the test's goroutine. It dies with the process that started it.
type Server struct {
	Data string // its folder, which must be reachable by other users

	t      testing.TB
	bin    string
	socket string // folder
	owner  *syscall.Credential
	cmd    *exec.Cmd
}

// New finds the programs. Nothing runs yet.
func New(t testing.TB, data string) *Server {
	t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(bins) == 0 {
		t.Fatal("PostgreSQL is not here: run scripts/setup test")
	}
	name := "postgres"
	if _, err := user.Lookup(name); err != nil {
		name = "nobody"
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, bin: filepath.Dir(bins[len(bins)-1]), Data: data, socket: PublicDir(t), owner: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	s.own(s.socket)
	return s
}

// PublicDir is a temporary folder that other users reach, too. It must be empty when the test ends.
func PublicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "openmigrate-public-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (s *Server) own(path string) {
	s.t.Helper()
	if err := os.Chown(path, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), filepath.Join(s.bin, name), args...) // cleanups run programs, too
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "PGHOST=" + s.socket, "PGUSER=test", "PGDATABASE=postgres", "HOME=/nonexistent"}
	return cmd
}

// Run runs one of PostgreSQL's programs as the server's user and returns what it said.
func (s *Server) Run(name string, args ...string) string {
	s.t.Helper()
	out, err := s.command(name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Init makes an empty cluster, with checksums of its pages. args are further ones for initdb.
func (s *Server) Init(args ...string) {
	s.t.Helper()
	if err := os.Mkdir(s.Data, 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.own(s.Data)
	s.Run("initdb", append([]string{"-D", s.Data, "-U", "test", "-A", "trust", "-k", "-N"}, args...)...)
}

// Start starts the server, which recovers if it must, and waits until it answers. settings ("name=value") win over those of here.
func (s *Server) Start(settings ...string) {
	s.t.Helper()
	logName := filepath.Join(s.t.TempDir(), "log")
	log, err := os.Create(logName)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // it has its own
	args := []string{"-D", s.Data, "-k", s.socket}
	for _, set := range append([]string{"listen_addresses=", "shared_buffers=16MB", "max_wal_size=64MB", "checkpoint_timeout=30s",
		"unix_socket_permissions=0777"}, settings...) {
		args = append(args, "-c", set)
	}
	s.cmd = s.command("postgres", args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if s.command("pg_isready", "-q").Run() == nil {
			return
		}
		if time.Now().After(deadline) {
			b, _ := os.ReadFile(logName)
			s.t.Fatalf("PostgreSQL does not answer\n%s", b)
		}
	}
}

// Stop shuts it down in order.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("stop PostgreSQL: %v", err)
	}
}

// Query runs SQL and returns the rows, fields with a bar between.
func (s *Server) Query(sql string) string {
	s.t.Helper()
	return s.Run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql)
}
