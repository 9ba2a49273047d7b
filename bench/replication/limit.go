package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/openmigrate/openmigrate/bench/limit"
	"github.com/openmigrate/openmigrate/bench/measure"
)

// runLimit runs one of the bare loops in a process of its own: see limitChild for its arguments.
func (b *bench) runLimit(ctx context.Context, args ...string) (limit.Result, error) {
	var res limit.Result
	exe, err := os.Executable()
	if err != nil {
		return res, fmt.Errorf("measure limit: %w", err)
	}
	_, out, err := measure.Command(measure.Stoppable(exec.CommandContext(ctx, exe, append([]string{limitArg}, args...)...)))
	if err != nil {
		return res, err
	}
	if err := json.Unmarshal(out, &res); err != nil {
		return res, fmt.Errorf("measure limit: decode result: %w", err)
	}
	return res, nil
}

// limitChild is that process: it runs a loop and prints its result.
//
//	scan DISK | replicate DISK | prepare DISK CACHE | restore CACHE FILE | restore-durable CACHE FILE
func limitChild(ctx context.Context, args []string, w io.Writer) error {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	var res limit.Result
	var err error
	switch arg(0) {
	case "scan":
		res, err = limit.Scan(ctx, arg(1), 0)
	case "replicate":
		res, err = limit.Replicate(ctx, arg(1), 0)
	case "prepare":
		res, err = limit.Prepare(ctx, arg(1), arg(2), 0)
	case "restore":
		res, err = limit.Restore(ctx, arg(1), arg(2), false)
	case "restore-durable":
		res, err = limit.Restore(ctx, arg(1), arg(2), true)
	default:
		return fmt.Errorf("measure limit: unknown loop %q", arg(0))
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(res)
}
