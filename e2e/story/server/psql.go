package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
)

// psql is one session of the program of that name, which answers each query with one line.
type psql struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func connect(ctx context.Context) (*psql, error) {
	cmd := exec.CommandContext(ctx, "psql", "-XqAt", "-F", " ", "-v", "ON_ERROR_STOP=1", "-d", "story")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &psql{cmd, in, bufio.NewReader(out)}, nil
}

func (s *psql) query(sql string, into ...any) error {
	if _, err := io.WriteString(s.in, sql+";\n"); err != nil {
		return fmt.Errorf("ask PostgreSQL: %w", err)
	}
	line, err := s.out.ReadString('\n')
	if err != nil {
		return fmt.Errorf("PostgreSQL ended the session: %w", err)
	}
	if _, err := fmt.Sscan(line, into...); err != nil {
		return fmt.Errorf("%q for %s: %w", line, sql, err)
	}
	return nil
}

func (s *psql) close() {
	_ = s.in.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // the session is given up, whatever it says
}

// rows is what the table holds.
type rows struct {
	Boot      string `json:"boot"` // of this machine
	Count     int64  `json:"count"`
	Distinct  int64  `json:"distinct"`
	First     int64  `json:"first"`
	Last      int64  `json:"last"`
	Before    int64  `json:"before"`     // rows of earlier boots, and so of the source
	LastThere int64  `json:"last_there"` // the last of those
}

func handler(boot string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := connect(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer s.close()
		v := rows{Boot: boot}
		err = s.query("SELECT count(*), count(DISTINCT id), coalesce(min(id),0), coalesce(max(id),0),"+
			" count(*) FILTER (WHERE boot<>'"+boot+"'), coalesce(max(id) FILTER (WHERE boot<>'"+boot+"'),0) FROM commits",
			&v.Count, &v.Distinct, &v.First, &v.Last, &v.Before, &v.LastThere)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // who went away does not care
	})
}
