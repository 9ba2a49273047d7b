package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits on what QEMU may do to us: a guest that has broken out of its machine speaks from there.
const (
	qmpLimit = 20 * time.Second // for one command
	qmpLine  = 4 << 20          // bytes of one line
)

// qmp speaks QEMU's machine protocol over a unix socket. It is used by one goroutine, for some commands, and closed: QEMU serves one client at a time.
type qmp struct {
	conn net.Conn
	r    *bufio.Reader
}

func newQMP(conn net.Conn) *qmp { return &qmp{conn: conn, r: bufio.NewReader(conn)} }

// dialQMP connects to the socket of that name in a folder, whose path may be longer than a socket's address can be.
func dialQMP(ctx context.Context, folder, name string) (*qmp, error) {
	dir, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: folder, Err: err}
	}
	defer func() { _ = unix.Close(dir) }()
	ctx, cancel := context.WithTimeout(ctx, qmpLimit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir, name))
	if err != nil {
		return nil, err
	}
	q := newQMP(conn)
	if err := q.greet(ctx); err != nil {
		q.close()
		return nil, fmt.Errorf("greet QEMU: %w", err)
	}
	return q, nil
}

// greet reads QEMU's greeting and answers it.
func (q *qmp) greet(ctx context.Context) error {
	q.bound(ctx)
	if _, err := q.line(); err != nil {
		return err
	}
	return q.run(ctx, "qmp_capabilities", nil, nil)
}

func (q *qmp) close() { _ = q.conn.Close() }

// bound sets the deadline of what follows.
func (q *qmp) bound(ctx context.Context) {
	at := time.Now().Add(qmpLimit)
	if d, ok := ctx.Deadline(); ok && d.Before(at) {
		at = d
	}
	_ = q.conn.SetDeadline(at) // a connection that cannot be bounded fails at once
}

// line reads one line of bounded length.
func (q *qmp) line() ([]byte, error) {
	var line []byte
	for {
		part, err := q.r.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > qmpLine {
			return nil, fmt.Errorf("QEMU says more than %d bytes in a line", qmpLine)
		}
	}
}

// run runs a command and decodes what it returns into result, unless that is nil. Events are not looked at.
func (q *qmp) run(ctx context.Context, command string, arguments, result any) error {
	m := object{"execute": command}
	if arguments != nil {
		m["arguments"] = arguments
	}
	q.bound(ctx)
	if _, err := q.conn.Write([]byte(m.String() + "\n")); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for {
		line, err := q.line()
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("%s: QEMU says: %s", command, strings.ToValidUTF8(answer.Error.Desc, "?"))
		case answer.Return != nil && result == nil:
			return nil
		case answer.Return != nil:
			if err := json.Unmarshal(answer.Return, result); err != nil {
				return fmt.Errorf("%s: %w", command, err)
			}
			return nil
		}
	}
}

// status is what query-status says: "running", "paused", "shutdown", "io-error", "internal-error"…
func (q *qmp) status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	err := q.run(ctx, "query-status", nil, &s)
	return s.Status, err
}

// peer is the process at the other end, as the kernel says.
func (q *qmp) peer() (int, error) {
	conn, ok := q.conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	c, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = c.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}
