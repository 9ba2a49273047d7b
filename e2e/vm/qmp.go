package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmp speaks QEMU's machine protocol over its unix socket. Events are not looked at.
type qmp struct {
	mu   sync.Mutex
	conn net.Conn      // guarded by mu
	r    *bufio.Reader // guarded by mu
}

// qmpLimit bounds one command.
const qmpLimit = 30 * time.Second

func dialQMP(ctx context.Context, path string) (*qmp, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, r: bufio.NewReader(conn)}
	// The greeting is the first line.
	_ = conn.SetDeadline(time.Now().Add(qmpLimit))
	if _, err = q.r.ReadBytes('\n'); err == nil {
		err = q.execute("qmp_capabilities", nil)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("greet QEMU: %w", err)
	}
	return q, nil
}

// execute runs a command and waits for its answer, whose value no caller needs.
func (q *qmp) execute(command string, arguments any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := map[string]any{"execute": command}
	if arguments != nil {
		m["arguments"] = arguments
	}
	_ = q.conn.SetDeadline(time.Now().Add(qmpLimit))
	if _, err := q.conn.Write(append(mustJSON(m), '\n')); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for {
		line, err := q.r.ReadBytes('\n')
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
			return fmt.Errorf("%s: %w", command, errors.New(answer.Error.Desc))
		case answer.Return != nil:
			return nil
		}
	}
}

func (q *qmp) close() { _ = q.conn.Close() }
