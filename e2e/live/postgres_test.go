package live

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// postgres is a server of Debian's package in a folder, run by an unprivileged user and reached by a unix socket.
type postgres struct {
	t      *testing.T
	bin    string
	data   string
	socket string
	owner  *syscall.Credential
	cmd    *exec.Cmd
}

func newPostgres(t *testing.T, data string) *postgres {
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
	p := &postgres{t: t, bin: filepath.Dir(bins[len(bins)-1]), data: data, socket: publicDir(t), owner: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	p.own(p.socket)
	return p
}

func (p *postgres) own(path string) {
	p.t.Helper()
	if err := os.Chown(path, int(p.owner.Uid), int(p.owner.Gid)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "PGHOST=" + p.socket, "PGUSER=test", "PGDATABASE=postgres", "HOME=/nonexistent"}
	return cmd
}

func (p *postgres) run(name string, args ...string) string {
	p.t.Helper()
	out, err := p.command(name, args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (p *postgres) init() {
	p.t.Helper()
	if err := os.Mkdir(p.data, 0o700); err != nil {
		p.t.Fatal(err)
	}
	p.own(p.data)
	p.run("initdb", "-D", p.data, "-U", "test", "-A", "trust", "-k", "-N")
}

// start starts the server, which recovers if it must, and waits until it answers.
func (p *postgres) start() {
	p.t.Helper()
	logName := filepath.Join(p.t.TempDir(), "log")
	log, err := os.Create(logName)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // it has its own
	p.cmd = p.command("postgres", "-D", p.data, "-k", p.socket, "-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-c", "max_wal_size=64MB",
		"-c", "checkpoint_timeout=30s", "-c", "unix_socket_permissions=0777")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if p.command("pg_isready", "-q").Run() == nil {
			return
		}
		if time.Now().After(deadline) {
			b, _ := os.ReadFile(logName)
			p.t.Fatalf("PostgreSQL does not answer\n%s", b)
		}
	}
}

// stop shuts it down in order.
func (p *postgres) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("stop PostgreSQL: %v", err)
	}
}

func (p *postgres) query(sql string) string {
	p.t.Helper()
	return p.run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql)
}

// client commits rows one after the other, and counts those whose commit was acknowledged.
type client struct {
	number    int
	committed atomic.Int64
	in        io.WriteCloser
	cmd       *exec.Cmd
	stop      chan struct{}
	err       error
}

func (p *postgres) client(number int, wg *sync.WaitGroup) *client {
	p.t.Helper()
	c := &client{number: number, stop: make(chan struct{}), cmd: p.command("psql", "-XqAt", "-v", "ON_ERROR_STOP=1")}
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	wg.Go(func() { c.err = c.work(bufio.NewScanner(out)) })
	return c
}

func (c *client) work(answers *bufio.Scanner) error {
	for n := int64(1); ; n++ {
		select {
		case <-c.stop:
			_ = c.in.Close() // psql ends with its input
			return c.cmd.Wait()
		default:
		}
		// One transaction: a row that is counted, and pages all over a table.
		_, err := fmt.Fprintf(c.in, "begin; update page set pad = md5(random()::text) where id in (select (random() * 20000)::int from generate_series(1, 3));"+
			" insert into entry values (%d, %d, repeat(md5(%d::text), 8)); commit; select %d;\n", c.number, n, n, n)
		if err != nil {
			return err
		}
		if !answers.Scan() || answers.Text() != strconv.FormatInt(n, 10) {
			return fmt.Errorf("client %d: answer %q to %d: %w", c.number, answers.Text(), n, errors.Join(answers.Err(), io.ErrUnexpectedEOF))
		}
		c.committed.Store(n)
	}
}

// TestPostgresUnderLoad: PostgreSQL starts from every restpoint that was taken while clients committed, and has each row once that was committed
// before it was asked for. Every page is sound.
func TestPostgresUnderLoad(t *testing.T) {
	for fs, usual := range map[string]int{"ext4": 3, "xfs": 2} {
		t.Run(fs, func(t *testing.T) {
			s := newServer(t, fs)
			db := newPostgres(t, filepath.Join(s.dir, "data"))
			db.init()
			db.start()
			defer db.stop()
			db.query("create table entry (client int, n bigint, pad text, primary key (client, n));" +
				" create table page (id int primary key, pad text, filler char(400) default 'x');" +
				" insert into page select i, md5(i::text) from generate_series(0, 20000) i")
			var wg sync.WaitGroup
			var clients []*client
			for i := range 3 {
				clients = append(clients, db.client(i, &wg))
			}
			defer func() {
				for _, c := range clients {
					close(c.stop)
				}
				wg.Wait()
				for _, c := range clients {
					if c.err != nil {
						t.Error(c.err)
					}
				}
			}()
			s.protect()
			for round := range rounds(t, usual) {
				var least [3]int64
				for i, c := range clients {
					least[i] = c.committed.Load()
				}
				p, out := s.restpoint(round)
				rows := recovered(t, fs, out)
				if err := os.Remove(out); err != nil { // it was written to
					t.Fatal(err)
				}
				for i := range clients {
					count, last := rows[i][0], rows[i][1]
					if last < least[i] || count != last {
						t.Errorf("round %d: client %d has %d rows up to %d, and %d were committed before", round, i, count, last, least[i])
					}
				}
				t.Logf("round %d: committed before %v, there: %v; %d bytes of chunks changed", round, least, rows, p.Disks[0].Changed)
			}
		})
	}
}

// recovered starts PostgreSQL from a copy of the disk and returns how many rows each client has and the number of its last. Then it checks all pages.
func recovered(t *testing.T, fs, image string) (rows [3][2]int64) {
	t.Helper()
	mnt, options := publicDir(t), "loop"
	if fs == "xfs" {
		options += ",nouuid" // the original is mounted
	}
	run(t, "mount", "-o", options, image, mnt)
	defer func() {
		run(t, "umount", mnt)
		if fs != "xfs" {
			return
		}
		// Another process's mount namespace may have a copy of the mount for a while.
		for deadline := time.Now().Add(time.Minute); run(t, "losetup", "-j", image) != ""; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is still in use", image)
			}
		}
		run(t, "xfs_repair", "-n", "-f", image)
	}()
	db := newPostgres(t, filepath.Join(mnt, "data"))
	if err := os.Remove(filepath.Join(db.data, "postmaster.pid")); err != nil { // of the source, whose process runs here, too
		t.Fatal(err)
	}
	db.start()
	out := db.query("select client, count(*), max(n) from entry group by client order by client")
	db.stop()
	for line := range strings.Lines(out) {
		var client int
		var count, last int64
		if _, err := fmt.Sscanf(line, "%d|%d|%d", &client, &count, &last); err != nil {
			t.Fatalf("answer %q: %v", line, err)
		}
		rows[client] = [2]int64{count, last}
	}
	db.run("pg_checksums", "--check", "-D", db.data)
	return rows
}
