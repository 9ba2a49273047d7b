package system

import (
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/wire"
)

// API is a client of the master with the rights of who started it, for what must be asked often or at once. Close it.
func (s *System) API() (*apiclient.Client, error) {
	ca, err := s.CA()
	if err != nil {
		return nil, err
	}
	c, err := wire.NewClient(wire.ClientOptions{URL: s.URL(), CA: ca, Token: s.variable("OPENMIGRATE_TOKEN"), UserAgent: "openmigrate-bench"})
	if err != nil {
		return nil, err
	}
	return apiclient.New(c), nil
}

// URL is the master's.
func (s *System) URL() string { return s.variable("OPENMIGRATE_URL") }

// CA is the master's certificate authority, DER.
func (s *System) CA() ([]byte, error) {
	ca, err := os.ReadFile(s.variable("OPENMIGRATE_CA_FILE"))
	if err != nil {
		return nil, fmt.Errorf("read the master's CA: %w", err)
	}
	block, _ := pem.Decode(ca)
	if block == nil {
		return nil, fmt.Errorf("read the master's CA: %s holds no PEM block", s.variable("OPENMIGRATE_CA_FILE"))
	}
	return block.Bytes, nil
}

// variable is one of those that the master wrote for commands; "" if it did not.
func (s *System) variable(name string) string {
	for _, v := range s.env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// Machine is the name of the machine, for the API.
func (s *System) Machine() string { return machine }

// AgentWrote is how many bytes the agent has written so far, to sockets, files and whatever else: what it sends is in it; 0: unknown.
func (s *System) AgentWrote() int64 { return measure.Written(s.agent.pid()) }

// CycleOf waits for what the agent reports of the cycle that made a restpoint: it does so after the restpoint is listed.
func (s *System) CycleOf(ctx context.Context, c *apiclient.Client, restpoint string) (*wire.CycleReport, error) {
	var report *wire.CycleReport
	err := eventually(ctx, s.agent, "the agent has reported on "+restpoint, func() error {
		m, err := c.Machine(ctx, machine)
		if err != nil {
			return err
		}
		if m.Report == nil || m.Report.Cycle == nil || m.Report.Cycle.Restpoint != restpoint {
			return fmt.Errorf("it says %+v", m.Report)
		}
		report = m.Report.Cycle
		return nil
	})
	return report, err
}

// Restpoints lists those of the machine that were listed after a moment, oldest first.
func Restpoints(ctx context.Context, c *apiclient.Client, after time.Time) ([]wire.RestpointInfo, error) {
	all, err := c.Restpoints(ctx, machine)
	if err != nil {
		return nil, err
	}
	var list []wire.RestpointInfo
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Listed.After(after) {
			list = append(list, all[i])
		}
	}
	return list, nil
}
