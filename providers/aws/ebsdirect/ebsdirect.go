// Package ebsdirect writes EBS snapshots with the EBS direct APIs: no instance, no volume, from anywhere that reaches the endpoint.
//
//	source ─► Sink.Reserve (buffers, in order) ─► full ─► SHA-256 ─► pace ─► PutSnapshotBlock ─► mark ─► journal
//
// A snapshot with a parent gets the blocks that differ from it, so a chain of snapshots follows a machine's restpoints and a cutover has
// only the last difference to put.
//
// Invariants. A snapshot is completed only when every block that the source named was acknowledged, with their number and with the
// checksum over all of their checksums, so the service compares both with what it has. What the journal calls put was acknowledged before. A crash at
// any point costs the blocks since the last note in the journal, which are put again with the same content. No call leaves without the pacer, repeats
// included, so the account's quotas are not passed by this process.
//
// Memory is Options.Buffers blocks of 512 KiB and some 100 bytes for each of at most 8192 blocks whose order is not settled.
//
// A Client and a Pacer may be used by any number of goroutines; a Journal belongs to one Copy at a time.
//
// The API is https://docs.aws.amazon.com/ebs/latest/APIReference/, its quotas https://docs.aws.amazon.com/general/latest/gr/ebs-service.html.
package ebsdirect

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"github.com/openmigrate/openmigrate/internal/clock"
)

// What the service fixes.
const (
	BlockSize = 512 << 10 // bytes
	MaxVolume = 64 << 40  // bytes
	MaxBlocks = MaxVolume / BlockSize
	// BlocksPerTiB is what a TiB without zeros costs in PutSnapshotBlock requests.
	BlocksPerTiB = (1 << 40) / BlockSize
)

// ErrGone: the pending snapshot was cancelled or deleted at the service, so its blocks must be put again into a new one.
var ErrGone = errors.New("pending snapshot is gone")

// API is what is used of the SDK's ebs.Client.
type API interface {
	StartSnapshot(ctx context.Context, in *ebs.StartSnapshotInput, o ...func(*ebs.Options)) (*ebs.StartSnapshotOutput, error)
	PutSnapshotBlock(ctx context.Context, in *ebs.PutSnapshotBlockInput, o ...func(*ebs.Options)) (*ebs.PutSnapshotBlockOutput, error)
	CompleteSnapshot(ctx context.Context, in *ebs.CompleteSnapshotInput, o ...func(*ebs.Options)) (*ebs.CompleteSnapshotOutput, error)
}

// Options change a Client. nil is the zero value.
type Options struct {
	Pacer    *Pacer        // of the account and region; share it between Clients. nil: one of its own with the default quotas
	Patience time.Duration // how long one call is repeated for reasons that may pass; 0: 10 minutes
	Timeout  time.Duration // of one attempt; 0: 1 minute
	Puts     int           // PutSnapshotBlock requests under way at once in a Copy; 0: 128, which is 1,000 a second at 128 ms
	Buffers  int           // blocks in memory in a Copy; 0: half as many again as Puts
	Clock    clock.Clock   // nil: the system's
	Sleep    func(context.Context, time.Duration) error
	// State asks what became of a snapshot (ec2 DescribeSnapshots). With it a Copy returns when the snapshot is completed, and settles a
	// CompleteSnapshot whose answer was lost; without, it returns when the service has taken the CompleteSnapshot.
	State func(ctx context.Context, id string) (State, error)
}

// State is where a snapshot is in its life, as DescribeSnapshots names it.
type State string

// States of a snapshot.
const (
	StatePending   State = "pending"
	StateCompleted State = "completed"
	StateError     State = "error"
	StateNone      State = "" // there is no such snapshot
)

const (
	defaultPatience = 10 * time.Minute
	defaultTimeout  = time.Minute
	defaultPuts     = 128
)

func (o *Options) fill() {
	if o.Pacer == nil {
		o.Pacer = NewPacer(Limits{}, o.Clock, o.Sleep)
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Puts <= 0 {
		o.Puts = defaultPuts
	}
	if o.Buffers <= 0 {
		o.Buffers = o.Puts + o.Puts/2
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
}

// Client makes the three calls, paced and repeated.
type Client struct {
	api API
	o   Options
}

// New makes a Client.
func New(api API, o *Options) *Client {
	c := &Client{api: api}
	if o != nil {
		c.o = *o
	}
	c.o.fill()
	return c
}

// NewAPI makes the SDK's client for a configuration, with as many kept connections as a Copy uses. endpoint is for clouds and tests that are
// not at AWS's address; empty: the region's.
func NewAPI(cfg aws.Config, endpoint string, puts int) *ebs.Client {
	if puts <= 0 {
		puts = defaultPuts
	}
	return ebs.NewFromConfig(cfg, func(o *ebs.Options) {
		if c, ok := o.HTTPClient.(*awshttp.BuildableClient); ok || o.HTTPClient == nil {
			if c == nil {
				c = awshttp.NewBuildableClient()
			}
			o.HTTPClient = c.WithTransportOptions(func(t *http.Transport) {
				t.MaxIdleConns, t.MaxIdleConnsPerHost = puts+8, puts+8
				t.WriteBufferSize = 64 << 10
			})
		}
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
	})
}

// Blocks is how many blocks a disk of size bytes has.
func Blocks(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
