package apiclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

const (
	lookFirst = 50 * time.Millisecond // after which an operation is looked at, longer each time
	lookLast  = time.Second
	cancelFor = 5 * time.Second // for telling the master that nobody waits any more
)

// Operation reads one.
func (c *Client) Operation(ctx context.Context, id string) (wire.OperationInfo, error) {
	return ask[wire.OperationInfo](ctx, c, http.MethodGet, wire.Path(wire.PathOperation, id), nil)
}

// CancelOperation stops one.
func (c *Client) CancelOperation(ctx context.Context, id string) error {
	return c.tell(ctx, http.MethodPost, wire.Path(wire.PathOperationCancel, id))
}

// follow starts an operation, tells how far it is and what it says (each may be nil), and returns its report. It is cancelled when ctx ends.
func (c *Client) follow(ctx context.Context, path string, progress func(wire.Progress), line func(string)) (json.RawMessage, error) {
	o, err := made[wire.OperationInfo](ctx, c, path, nil)
	if err != nil {
		return nil, err
	}
	told := 0
	for wait := lookFirst; ; wait = min(2*wait, lookLast) {
		err := wire.Retry(ctx, 0, func() (err error) {
			o, err = c.Operation(ctx, o.ID)
			return err
		})
		if err == nil {
			told = tell(&o, told, progress, line)
		}
		switch {
		case ctx.Err() != nil:
			late, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelFor)
			defer stop()
			_ = c.CancelOperation(late, o.ID) // it may be over
			return nil, ctx.Err()
		case err != nil:
			return nil, err
		case o.State == wire.OperationRunning:
		case o.Problem != nil:
			return nil, o.Problem
		case o.State != wire.OperationDone:
			return nil, fmt.Errorf("the operation is %s", o.State)
		default:
			return o.Report, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// tell passes on what is new; told is how many lines were. An operation that says very much may have dropped some.
func tell(o *wire.OperationInfo, told int, progress func(wire.Progress), line func(string)) int {
	if progress != nil && o.Progress != nil {
		progress(*o.Progress)
	}
	for ; line != nil && told < len(o.Lines); told++ {
		line(o.Lines[told])
	}
	return told
}
