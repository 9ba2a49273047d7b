package apart

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/hydrator/convert"
	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
)

// As in package fence, this must not depend on the program's main function.
func init() {
	if len(os.Args) == 1 && os.Args[0] == processName {
		os.Exit(second())
	}
}

// second is the child. It answers on stdout, and all that it has goes with it.
func second() int {
	// A dump would hold what the caller wants written into the copy.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	out := json.NewEncoder(os.Stdout)
	var r request
	b, err := io.ReadAll(io.LimitReader(os.Stdin, maxRequest))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	a := answer{Done: true}
	if err == nil {
		err = r.do(ctx, &a, func(step string) { _ = out.Encode(answer{Step: step}) })
	}
	if err != nil {
		a.Error, a.Refused = err.Error(), errors.Is(err, convert.ErrRefused)
	}
	if a.System != nil { // where the caller has them
		for i := range a.System.Disks {
			a.System.Disks[i].Path = fmt.Sprintf("disk %d", i)
		}
	}
	if err := out.Encode(a); err != nil {
		fmt.Fprintln(os.Stderr, "answer:", err)
		return 1
	}
	return 0
}

func (r *request) do(ctx context.Context, a *answer, show func(string)) (err error) {
	if r.Mode == modeProbe {
		return disks.Probe(ctx, r.Disks[0])
	}
	show("looking at the disks")
	if a.System, err = convert.Detect(ctx, r.Disks); err != nil {
		return err
	}
	if r.Mode == modeInspect {
		if r.Target == nil {
			return nil
		}
		show("checking")
		return convert.Check(ctx, a.System, *r.Target)
	}
	a.Report, err = convert.Convert(ctx, a.System, *r.Target, &convert.Options{Timeout: r.Limit.Timeout, Scratch: r.Limit.Scratch, Progress: show})
	return err
}
