package system

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/wire"
)

// command prepares `openmigrate args… -o json`.
func (s *System) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := measure.Stoppable(exec.CommandContext(ctx, filepath.Join(s.bin, "openmigrate"), append(args, "-o", "json")...))
	cmd.Env = append(os.Environ(), s.env...)
	return cmd
}

// cli runs a command, measures it, and decodes what it prints.
func (s *System) cli(ctx context.Context, v any, args ...string) (measure.Run, error) {
	run, out, err := measure.Command(s.command(ctx, args...))
	if err != nil {
		return run, fmt.Errorf("openmigrate %s: %w", strings.Join(args, " "), err)
	}
	if err := json.Unmarshal(out, v); err != nil {
		return run, fmt.Errorf("openmigrate %s: decode what it printed: %w", strings.Join(args, " "), err)
	}
	return run, nil
}

// Cycle is one restpoint and what it cost.
type Cycle struct {
	Restpoint wire.RestpointInfo `json:"restpoint"`
	Wall      time.Duration      `json:"wall"`    // from the request to the moment at which it was listed
	Command   time.Duration      `json:"command"` // of the command, which asks from time to time whether it is done
	Agent     measure.Usage      `json:"agent"`
	Server    measure.Usage      `json:"server"` // master and S3 server
}

// Sync makes a restpoint now and measures it. CPU seconds are of this cycle; peaks are since the start of the processes.
func (s *System) Sync(ctx context.Context) (Cycle, error) {
	var c Cycle
	agent, server, err := s.Usage()
	if err != nil {
		return c, err
	}
	began := time.Now()
	run, err := s.cli(ctx, &c.Restpoint, "machines", "sync", machine, "--wait")
	if err != nil {
		return c, fmt.Errorf("%w%s", err, s.logs())
	}
	c.Wall = c.Restpoint.Listed.Sub(began) // one clock: the master runs here
	if c.Wall <= 0 || c.Wall > time.Since(began) {
		return c, fmt.Errorf("restpoint %s was listed at %v, but asked for at %v", c.Restpoint.ID, c.Restpoint.Listed, began)
	}
	if c.Agent, c.Server, err = s.Usage(); err != nil {
		return c, err
	}
	c.Command = run.Wall
	c.Agent.CPU -= agent.CPU
	c.Server.CPU -= server.CPU
	return c, nil
}

// Usage is what the agent has used since it started, and the master with its S3 server.
func (s *System) Usage() (agent, server measure.Usage, err error) {
	if agent, err = measure.Of(s.agent.pid()); err != nil {
		return agent, server, fmt.Errorf("%w%s", err, s.logs())
	}
	if server, err = measure.OfTree(s.master.pid()); err != nil {
		return agent, server, fmt.Errorf("%w%s", err, s.logs())
	}
	return agent, server, nil
}

// Export writes the first disk of a restpoint to a file and measures the command that does it.
func (s *System) Export(ctx context.Context, restpoint, to string) (measure.Run, wire.JobResult, error) {
	var res wire.JobResult
	run, err := s.cli(ctx, &res, "restpoints", "export", restpoint, "--disk", "0", "--to", to)
	return run, res, err
}
