package ebsdirect_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/openmigrate/openmigrate/providers/aws/awsfake"
	"github.com/openmigrate/openmigrate/providers/aws/ebsdirect"
)

// world is an account, with somebody on the line who may lose or change answers.
type world struct {
	*awsfake.Server
	url string
	ec2 *ec2.Client

	mu   sync.Mutex
	gate func(action string, done bool, rw http.ResponseWriter) bool // guarded by mu
}

func newWorld(t testing.TB, o awsfake.Options) *world {
	w := &world{}
	if o.Limits.PutRate == 0 {
		o.Limits.PutRate, o.Limits.StartRate = -1, -1 // limits are asked for by those who test them
	}
	w.Server = awsfake.New(&o)
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	w.url = s.URL
	w.ec2 = ec2.NewFromConfig(config(), func(o *ec2.Options) { o.BaseEndpoint = &w.url })
	return w
}

func config() aws.Config {
	return aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(awsfake.TestKey.ID, awsfake.TestKey.Secret, "")}
}

func (w *world) api() *ebs.Client { return ebsdirect.NewAPI(config(), w.url, 0) }

func (w *world) client() *ebsdirect.Client {
	return ebsdirect.New(w.api(), &ebsdirect.Options{Clock: &stepClock{now: time.Unix(1.7e9, 0)}, Puts: 4, Buffers: 16, State: w.state,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
}

// hook makes h see each call of the direct APIs before it is worked on, and again when it is done but not answered. If h returns true it is not answered
// by the account; nothing written is a lost answer.
func (w *world) hook(h func(action string, done bool, rw http.ResponseWriter) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate = h
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	action := ""
	switch {
	case r.Method == "PUT" && strings.Contains(r.URL.Path, "/blocks/"):
		action = "PutSnapshotBlock"
	case r.Method == "POST" && r.URL.Path == "/snapshots":
		action = "StartSnapshot"
	case r.Method == "POST" && strings.HasPrefix(r.URL.Path, "/snapshots/completion/"):
		action = "CompleteSnapshot"
	}
	w.mu.Lock()
	gate := w.gate
	w.mu.Unlock()
	if action == "" || gate == nil {
		w.Server.ServeHTTP(rw, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if gate(action, false, rw) {
		return
	}
	rec := httptest.NewRecorder()
	w.Server.ServeHTTP(rec, r)
	if gate(action, true, rw) {
		return
	}
	for k, v := range rec.Header() {
		rw.Header()[k] = v
	}
	rw.WriteHeader(rec.Code)
	_, _ = rw.Write(rec.Body.Bytes())
}

// refuse is an answer of the direct APIs.
func refuse(rw http.ResponseWriter, status int, code, reason string) {
	rw.Header().Set("X-Amzn-Errortype", code)
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(map[string]string{"Message": "no", "Reason": reason})
}

// state is what the provider gives a Client: DescribeSnapshots.
func (w *world) state(ctx context.Context, id string) (ebsdirect.State, error) {
	out, err := w.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "InvalidSnapshot.NotFound" {
		return ebsdirect.StateNone, nil
	}
	if err != nil {
		return "", err
	}
	return ebsdirect.State(out.Snapshots[0].State), nil
}

func (w *world) snapshots(t testing.TB) []types.Snapshot {
	t.Helper()
	out, err := w.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	return out.Snapshots
}

func (w *world) remove(t testing.TB, id string) {
	t.Helper()
	if _, err := w.ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &id}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) count(action string) int { return w.Calls()["ebs:"+action] }

// read compares a completed snapshot, byte for byte, with what a disk is to hold.
func (w *world) read(t testing.TB, id string, want []byte) {
	t.Helper()
	if st, err := w.state(t.Context(), id); st != ebsdirect.StateCompleted {
		t.Fatalf("snapshot %s is %q, %v", id, st, err)
	}
	d := w.Disk(id)
	if size := (int64(len(want)) + 1<<30 - 1) >> 30 << 30; d.Size() != size {
		t.Errorf("snapshot %s has %d bytes, want %d", id, d.Size(), size)
	}
	got := make([]byte, ebsdirect.Blocks(int64(len(want)))*ebsdirect.BlockSize)
	if _, err := d.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:len(want)], want) {
		t.Errorf("snapshot %s is not the disk", id)
	}
	if !bytes.Equal(got[len(want):], make([]byte, len(got)-len(want))) {
		t.Error("the last block does not end with zeros")
	}
	// The volume is larger than the disk.
	if err := d.Extents(func(off int64) {
		b := make([]byte, ebsdirect.BlockSize)
		if _, err := d.ReadAt(b, off); off >= int64(len(got)) && (err != nil || !bytes.Equal(b, make([]byte, len(b)))) {
			t.Errorf("block at %d behind the disk is not zeros (%v)", off, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
