package ebsdirect_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers/aws/ebsdirect"
)

// fake is the service as its reference describes it, strict about what a client sends:
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_StartSnapshot.html, API_PutSnapshotBlock.html, API_CompleteSnapshot.html.
type fake struct {
	latency time.Duration // of each call
	quota   float64       // puts a second, as a token bucket; 0: none
	burst   float64

	mu     sync.Mutex
	snaps  map[string]*fakeSnap // guarded by mu, as is all below
	tokens map[string]string
	n      int
	calls  map[string]int
	tokensLeft,
	worst float64 // most that the bucket was overdrawn
	at    time.Time
	puts  []time.Time
	// answer, when set, sees each call first, and again when the work is done but not answered.
	answer func(action string, done bool, rw http.ResponseWriter) bool
	keep   bool // the blocks' bytes
}

type fakeSnap struct {
	id, parent string
	gib        int64
	state      ebsdirect.State
	blocks     map[int64][]byte
	sums       map[int64][32]byte
	tags       map[string]string
	body       string
}

func newFake() *fake {
	return &fake{snaps: map[string]*fakeSnap{}, tokens: map[string]string{}, calls: map[string]int{}, keep: true}
}

func (f *fake) serve(t testing.TB) string {
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

func refuse(rw http.ResponseWriter, status int, code, reason, message string) {
	rw.Header().Set("X-Amzn-Errortype", code)
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(map[string]string{"Message": message, "Reason": reason})
}

func throttle(rw http.ResponseWriter) {
	refuse(rw, 400, "RequestThrottledException", "ACCOUNT_THROTTLED", "Rate exceeded")
}

func (f *fake) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	start := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, 1<<20))
	if err != nil {
		return
	}
	if d := f.latency - time.Since(start); d > 0 {
		time.Sleep(d)
	}
	action := ""
	switch {
	case r.Method == "POST" && r.URL.Path == "/snapshots":
		action = "StartSnapshot"
	case r.Method == "PUT" && strings.Contains(r.URL.Path, "/blocks/"):
		action = "PutSnapshotBlock"
	case r.Method == "POST" && strings.HasPrefix(r.URL.Path, "/snapshots/completion/"):
		action = "CompleteSnapshot"
	default:
		refuse(rw, 400, "ValidationException", "INVALID_PARAMETER_VALUE", r.Method+" "+r.URL.Path)
		return
	}
	if !strings.Contains(r.Header.Get("Authorization"), "/ebs/aws4_request") {
		refuse(rw, 403, "MissingAuthenticationTokenException", "", "not signed for ebs")
		return
	}
	f.mu.Lock()
	f.calls[action]++
	hook := f.answer
	over := action == "PutSnapshotBlock" && f.overdrawn(start)
	f.mu.Unlock()
	if over {
		throttle(rw)
		return
	}
	if hook != nil && hook(action, false, rw) {
		return
	}
	rec := httptest.NewRecorder()
	switch action {
	case "StartSnapshot":
		f.start(rec, body)
	case "PutSnapshotBlock":
		f.put(rec, r, body)
	default:
		f.complete(rec, r)
	}
	if hook != nil && hook(action, true, rw) {
		return
	}
	for k, v := range rec.Header() {
		rw.Header()[k] = v
	}
	rw.WriteHeader(rec.Code)
	_, _ = rw.Write(rec.Body.Bytes())
}

// overdrawn is a token bucket. The caller holds mu.
func (f *fake) overdrawn(now time.Time) bool {
	f.puts = append(f.puts, now)
	if f.quota == 0 {
		return false
	}
	if f.at.IsZero() {
		f.tokensLeft = f.burst
	} else if since := now.Sub(f.at); since > 0 {
		f.tokensLeft = min(f.burst, f.tokensLeft+f.quota*since.Seconds())
	}
	if now.After(f.at) {
		f.at = now
	}
	if f.tokensLeft < 1 {
		return true
	}
	f.tokensLeft--
	return false
}

func (f *fake) start(rw http.ResponseWriter, body []byte) {
	var in struct {
		VolumeSize                              int64
		ClientToken, ParentSnapshotId, KmsKeyArn string
		Encrypted                               *bool
		Timeout                                 int
		Tags                                    []struct{ Key, Value string }
	}
	if err := json.Unmarshal(body, &in); err != nil {
		refuse(rw, 400, "ValidationException", "INVALID_PARAMETER_VALUE", err.Error())
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if id := f.tokens[in.ClientToken]; id != "" {
		s := f.snaps[id]
		if s.body != string(body) {
			refuse(rw, 409, "ConflictException", "", "the client token was used with other parameters")
			return
		}
		f.started(rw, s)
		return
	}
	switch p := f.snaps[in.ParentSnapshotId]; {
	case in.VolumeSize < 1 || in.VolumeSize > 65536:
		refuse(rw, 400, "ValidationException", "INVALID_VOLUME_SIZE", "size")
		return
	case in.ParentSnapshotId == "":
	case in.Encrypted != nil:
		refuse(rw, 400, "ValidationException", "INVALID_PARAMETER_VALUE", "ParentSnapshotId and Encrypted")
		return
	case p == nil:
		refuse(rw, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", "parent")
		return
	case p.state != ebsdirect.StateCompleted:
		refuse(rw, 400, "ValidationException", "INVALID_SNAPSHOT_ID", "parent is not completed")
		return
	case p.gib > in.VolumeSize:
		refuse(rw, 400, "ValidationException", "INVALID_VOLUME_SIZE", "smaller than its parent")
		return
	}
	pending := 0
	for _, s := range f.snaps {
		if s.state == ebsdirect.StatePending {
			pending++
		}
	}
	if pending >= 100 {
		refuse(rw, 400, "ConcurrentLimitExceededException", "", "100 snapshots are pending")
		return
	}
	f.n++
	s := &fakeSnap{id: fmt.Sprintf("snap-%017d", f.n), parent: in.ParentSnapshotId, gib: in.VolumeSize, state: ebsdirect.StatePending,
		blocks: map[int64][]byte{}, sums: map[int64][32]byte{}, tags: map[string]string{}, body: string(body)}
	for _, t := range in.Tags {
		s.tags[t.Key] = t.Value
	}
	f.snaps[s.id], f.tokens[in.ClientToken] = s, s.id
	f.started(rw, s)
}

func (f *fake) started(rw http.ResponseWriter, s *fakeSnap) {
	rw.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(rw).Encode(map[string]any{"SnapshotId": s.id, "BlockSize": 524288, "VolumeSize": s.gib, "Status": s.state})
}

func (f *fake) put(rw http.ResponseWriter, r *http.Request, body []byte) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // snapshots/ID/blocks/N
	index, err := strconv.ParseInt(parts[len(parts)-1], 10, 32)
	sum := sha256.Sum256(body)
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.snaps[parts[1]]
	switch {
	case s == nil:
		refuse(rw, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", parts[1])
	case s.state != ebsdirect.StatePending:
		refuse(rw, 400, "ValidationException", "INVALID_SNAPSHOT_ID", "not pending")
	case err != nil || index < 0 || index >= s.gib<<30/524288 || len(body) != 524288 || r.Header.Get("X-Amz-Data-Length") != "524288":
		refuse(rw, 400, "ValidationException", "INVALID_BLOCK", "index or length")
	case r.Header.Get("X-Amz-Checksum-Algorithm") != "SHA256" || r.Header.Get("X-Amz-Checksum") != base64.StdEncoding.EncodeToString(sum[:]):
		refuse(rw, 400, "ValidationException", "INVALID_BLOCK", "checksum")
	default:
		if f.keep {
			s.blocks[index] = body
		}
		s.sums[index] = sum
		rw.Header().Set("X-Amz-Checksum", r.Header.Get("X-Amz-Checksum"))
		rw.Header().Set("X-Amz-Checksum-Algorithm", "SHA256")
		rw.WriteHeader(http.StatusCreated)
	}
}

func (f *fake) complete(rw http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Path, "/snapshots/completion/")
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.snaps[id]
	if s == nil || s.state != ebsdirect.StatePending {
		refuse(rw, 400, "ValidationException", "INVALID_SNAPSHOT_ID", "not pending")
		return
	}
	all := sha256.New()
	for _, at := range sortedKeys(s.sums) {
		sum := s.sums[at]
		all.Write(sum[:])
	}
	switch {
	case r.Header.Get("X-Amz-Changedblockscount") != strconv.Itoa(len(s.sums)):
		refuse(rw, 400, "ValidationException", "INVALID_PARAMETER_VALUE", "blocks: "+r.Header.Get("X-Amz-Changedblockscount"))
	case r.Header.Get("X-Amz-Checksum-Aggregation-Method") != "LINEAR" || r.Header.Get("X-Amz-Checksum") != base64.StdEncoding.EncodeToString(all.Sum(nil)):
		refuse(rw, 400, "ValidationException", "INVALID_PARAMETER_VALUE", "checksum")
	default:
		s.state = ebsdirect.StateCompleted
		rw.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(rw, `{"Status":"completed"}`)
	}
}

func sortedKeys[V any](m map[int64]V) []int64 {
	var keys []int64
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// cancel is what the service does with a snapshot that nobody writes to.
func (f *fake) cancel(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snaps[id].state = ebsdirect.StateError
}

// remove deletes a snapshot.
func (f *fake) remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.snaps, id)
}

// read compares a snapshot with what a disk is to hold.
func (f *fake) read(t testing.TB, id string, want []byte) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.snaps[id]
	if s == nil || s.state != ebsdirect.StateCompleted {
		t.Fatalf("snapshot %s is not completed: %+v", id, s)
	}
	var chain []*fakeSnap
	for at := s; at != nil; at = f.snaps[at.parent] {
		chain = append(chain, at)
	}
	// The volume is larger than the disk: what lies behind it is looked at where there are blocks.
	got := make([]byte, ebsdirect.Blocks(int64(len(want)))*ebsdirect.BlockSize)
	for _, at := range slices.Backward(chain) {
		for i, b := range at.blocks {
			if i*ebsdirect.BlockSize >= int64(len(got)) {
				if !bytes.Equal(b, make([]byte, len(b))) {
					t.Errorf("block %d behind the disk is not zeros", i)
				}
				continue
			}
			copy(got[i*ebsdirect.BlockSize:], b)
		}
	}
	if !bytes.Equal(got[:len(want)], want) {
		t.Errorf("snapshot %s is not the disk", id)
	}
	if !bytes.Equal(got[len(want):], make([]byte, len(got)-len(want))) {
		t.Error("the last block does not end with zeros")
	}
}

func (f *fake) count(action string) int { f.mu.Lock(); defer f.mu.Unlock(); return f.calls[action] }

func (f *fake) hook(h func(action string, done bool, rw http.ResponseWriter) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = h
}

// busiest is the most puts that came in any second.
func (f *fake) busiest() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortFunc(f.puts, time.Time.Compare)
	for i, j := 0, 0; j < len(f.puts); j++ {
		for f.puts[j].Sub(f.puts[i]) >= time.Second {
			i++
		}
		n = max(n, j-i+1)
	}
	return n
}
