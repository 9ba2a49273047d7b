package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/openmigrate/openmigrate/agent"
	"github.com/openmigrate/openmigrate/internal/cli"
)

func status(dir string, out *cli.Output) error {
	s, err := agent.ReadStatus(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no agent has run with --state-dir %s", dir)
	}
	if err != nil {
		return err
	}
	return out.Print(os.Stdout, s, func(w io.Writer) {
		cli.Row(w, "state", s.State+" "+s.Message)
		cli.Row(w, "machine", s.MachineName+" "+s.Machine)
		cli.Row(w, "master", s.Master)
		cli.Row(w, "tracker", s.Tracker)
		if s.LastTime != nil {
			cli.Row(w, "last restpoint", s.LastRestpoint+" "+s.LastTime.Format(time.RFC3339))
		}
		if p := s.Progress; p != nil && p.Total > 0 {
			cli.Row(w, "progress", fmt.Sprintf("%s %d %%", p.Phase, 100*p.Done/p.Total))
		}
		if s.Error != "" {
			cli.Row(w, "error", s.Error)
		}
	})
}
