package awsfake

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rest answers a request of the direct APIs.
func (s *Server) rest(w http.ResponseWriter, r *http.Request, who caller, body []byte) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	route := r.Method + " " + strings.Join(parts, "/")
	id := ""
	if len(parts) > 1 && parts[0] == "snapshots" {
		if at := 1; parts[1] != "completion" {
			id, parts[at] = parts[at], "ID"
		} else if len(parts) > 2 {
			id, parts[2] = parts[2], "ID"
		}
		if len(parts) > 3 {
			parts[3] = "INDEX"
		}
		route = r.Method + " " + strings.Join(parts, "/")
	}
	var sum [32]byte
	if r.Method == http.MethodPut {
		sum = sha256.Sum256(body) // outside the lock
	}
	for _, x := range []struct {
		route, action string
		run           func() (*answer, error)
	}{
		{"POST snapshots", "StartSnapshot", func() (*answer, error) { return s.startSnapshot(body) }},
		{"PUT snapshots/ID/blocks/INDEX", "PutSnapshotBlock", func() (*answer, error) { return s.putBlock(id, r, body, sum) }},
		{"POST snapshots/completion/ID", "CompleteSnapshot", func() (*answer, error) { return s.completeSnapshot(id, r) }},
		{"GET snapshots/ID/blocks/INDEX", "GetSnapshotBlock", func() (*answer, error) { return s.getBlock(id, r) }},
		{"GET snapshots/ID/blocks", "ListSnapshotBlocks", func() (*answer, error) { return s.listBlocks(id, r) }},
		{"GET snapshots/ID/changedblocks", "ListChangedBlocks", func() (*answer, error) { return s.changedBlocks(id, r) }},
	} {
		if x.route == route {
			s.serve(w, who, x.action, x.run)
			return
		}
	}
	write(w, "ebs", failed(&apiError{http.StatusNotFound, "UnknownOperationException", "no such operation: " + r.Method + " " + r.URL.Path, ""}))
}

func errorJSON(e *apiError) []byte {
	m := map[string]string{"Message": e.message}
	if e.reason != "" {
		m["Reason"] = e.reason
	}
	b, _ := json.Marshal(m) // strings
	return b
}

func jsonAnswer(status int, v any) (*answer, error) {
	b, err := json.Marshal(v)
	return &answer{status: status, body: b, header: map[string]string{"Content-Type": "application/json"}}, err
}

// invalid is EBS's ValidationException with its reason.
func invalid(reason, message string) error {
	return &apiError{http.StatusBadRequest, "ValidationException", message, reason}
}

// direct finds a snapshot that a direct call names.
func (s *Server) direct(id string) (*snapshot, error) {
	if !snapshotForm.MatchString(id) {
		return nil, invalid("INVALID_SNAPSHOT_ID", "The snapshot ID '"+id+"' is not valid")
	}
	x := s.snapshots[id]
	if x == nil || !s.visible(x.created) {
		return nil, &apiError{http.StatusNotFound, "ResourceNotFoundException", "The snapshot '" + id + "' does not exist.", "SNAPSHOT_NOT_FOUND"}
	}
	return x, nil
}

type startRequest struct {
	VolumeSize       int64
	ParentSnapshotID string `json:"ParentSnapshotId"`
	ClientToken      string
	Description      string
	Encrypted        *bool
	KmsKeyArn        string
	Tags             []struct{ Key, Value string }
	Timeout          int
}

type started struct {
	SnapshotID       string  `json:"SnapshotId"`
	OwnerID          string  `json:"OwnerId"`
	Status           string  `json:"Status"`
	StartTime        float64 `json:"StartTime"`
	VolumeSize       int64   `json:"VolumeSize"`
	BlockSize        int     `json:"BlockSize"`
	ParentSnapshotID string  `json:"ParentSnapshotId,omitempty"`
	Description      string  `json:"Description,omitempty"`
	KmsKeyArn        string  `json:"KmsKeyArn,omitempty"`
}

func (x *snapshot) started() started {
	return started{x.id, Account, x.state, float64(x.created.UnixMilli()) / 1000, x.size >> 30, BlockSize, x.parent, x.description, x.kms}
}

// startSnapshot: EBS/StartSnapshot.
func (s *Server) startSnapshot(body []byte) (*answer, error) {
	var in startRequest
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, &apiError{http.StatusBadRequest, "SerializationException", err.Error(), ""}
	}
	key := ""
	if in.ClientToken != "" {
		key = "StartSnapshot " + in.ClientToken
		if made, ok := s.tokens[key]; ok {
			if made.request != string(body) {
				return nil, &apiError{http.StatusConflict, "ConflictException", "The request uses the same client token as a previous, but non-identical request.", ""}
			}
			x, err := s.direct(made.id)
			if err != nil {
				return nil, err
			}
			return jsonAnswer(http.StatusCreated, x.started())
		}
	}
	if in.VolumeSize < 1 || in.VolumeSize > 65536 {
		return nil, invalid("INVALID_VOLUME_SIZE", fmt.Sprintf("a volume size of %d GiB is not valid: from 1 to 65536", in.VolumeSize))
	}
	if in.Timeout != 0 && (in.Timeout < 10 || in.Timeout > 4320) {
		return nil, invalid("INVALID_PARAMETER_VALUE", "timeout: from 10 to 4320 minutes")
	}
	var tags []params
	for _, t := range in.Tags {
		tags = append(tags, params{"Key": t.Key, "Value": t.Value})
	}
	named, err := tagList(tags)
	if err != nil {
		return nil, invalid("INVALID_TAG", err.Error())
	}
	x := &snapshot{content: newContent(in.VolumeSize<<30, nil), parent: in.ParentSnapshotID, description: in.Description, encrypted: in.Encrypted != nil && *in.Encrypted, kms: in.KmsKeyArn,
		open: true, puts: map[int64][32]byte{}, timeout: in.Timeout}
	if x.parent != "" {
		p, err := s.direct(x.parent)
		switch {
		case err != nil:
			return nil, err
		case in.Encrypted != nil: // EBS/StartSnapshot, Encrypted: not together with a parent
			return nil, invalid("INVALID_PARAMETER_VALUE", "Encrypted and ParentSnapshotId cannot both be set")
		case p.state != "completed" || p.size > x.size:
			return nil, invalid("INVALID_DEPENDENCY_REQUEST", "The parent snapshot is not completed, or larger than the volume")
		case p.kms != x.kms && p.encrypted:
			return nil, invalid("INVALID_PARAMETER_VALUE", "KmsKeyArn must be the key of the parent")
		}
		x.content, x.encrypted = newContent(x.size, p.content), p.encrypted
	}
	if enabled, known := s.kmsKeys[x.kms]; x.kms != "" && (!known || !enabled) {
		return nil, &apiError{http.StatusForbidden, "AccessDeniedException", "The KMS key " + x.kms + " is disabled or not accessible", "DEPENDENCY_ACCESS_DENIED"}
	}
	pending := 0
	for _, o := range s.snapshots {
		if o.open {
			pending++
		}
	}
	if l := s.opts.Limits.PendingSnapshots; l > 0 && pending >= l {
		return nil, &apiError{http.StatusBadRequest, "ConcurrentLimitExceededException", "You have reached the limit for concurrent API requests: pending snapshots", ""}
	}
	if err := s.snapshotRoom(); err != nil {
		return nil, &apiError{http.StatusPaymentRequired, "ServiceQuotaExceededException", err.Error(), "DEPENDENCY_SERVICE_QUOTA_EXCEEDED"}
	}
	if x.timeout == 0 {
		x.timeout = 60
	}
	x.thing = thing{id: s.id("snap"), tags: named, created: s.now(), state: "pending"}
	x.wait(s.now())
	s.snapshots[x.id] = x
	s.made(key, string(body), x.id)
	return jsonAnswer(http.StatusCreated, x.started())
}

// wait gives the writer its time anew: EBS/StartSnapshot, Timeout.
func (x *snapshot) wait(now time.Time) { x.due = now.Add(time.Duration(x.timeout) * time.Minute) }

func digest(sum [32]byte) string { return base64.StdEncoding.EncodeToString(sum[:]) }

// putBlock: EBS/PutSnapshotBlock. A block may be put again; the last one counts.
func (s *Server) putBlock(id string, r *http.Request, body []byte, sum [32]byte) (*answer, error) {
	x, err := s.direct(id)
	if err != nil {
		return nil, err
	}
	index, err := strconv.ParseInt(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:], 10, 64)
	switch h := r.Header; {
	case err != nil || index < 0 || index >= x.size/BlockSize:
		return nil, invalid("INVALID_BLOCK", "the block index is not within the volume")
	case !x.open:
		return nil, invalid("INVALID_SNAPSHOT_ID", "The snapshot is not pending")
	case h.Get("X-Amz-Data-Length") != strconv.Itoa(BlockSize) || len(body) != BlockSize:
		return nil, invalid("INVALID_BLOCK", fmt.Sprintf("a block has %d bytes, not %d", BlockSize, len(body)))
	case h.Get("X-Amz-Checksum-Algorithm") != "SHA256":
		return nil, invalid("INVALID_PARAMETER_VALUE", "the only checksum algorithm is SHA256")
	case h.Get("X-Amz-Checksum") != digest(sum):
		return nil, invalid("INVALID_BLOCK", "The checksum does not match the data")
	}
	if l := s.opts.Limits.PutRate; l > 0 && !s.take("ebs:PutSnapshotBlock "+id, l, l) {
		return nil, &apiError{http.StatusBadRequest, "RequestThrottledException", "The rate of puts to this snapshot is too high", "RESOURCE_LEVEL_THROTTLE"}
	}
	if x.blocks[index], err = s.blocks.put(body); err != nil {
		return nil, err
	}
	x.puts[index] = sum
	x.wait(s.now())
	return &answer{status: http.StatusCreated, body: []byte("{}"), header: map[string]string{"X-Amz-Checksum": digest(sum), "X-Amz-Checksum-Algorithm": "SHA256", "Content-Type": "application/json"}}, nil
}

// linear is the checksum of checksums in the order of blocks: EBS/CompleteSnapshot, ChecksumAggregationMethod.
func (x *snapshot) linear() string {
	var order []int64
	for i := range x.puts {
		order = append(order, i)
	}
	slices.Sort(order)
	h := sha256.New()
	for _, i := range order {
		sum := x.puts[i]
		h.Write(sum[:])
	}
	return digest([32]byte(h.Sum(nil)))
}

// completeSnapshot: EBS/CompleteSnapshot. The page does not say how a wrong count is refused, nor that a second call with the same numbers
// succeeds; both are chosen so that a client has to count and may repeat.
func (s *Server) completeSnapshot(id string, r *http.Request) (*answer, error) {
	x, err := s.direct(id)
	if err != nil {
		return nil, err
	}
	count, err := strconv.Atoi(r.Header.Get("X-Amz-Changedblockscount"))
	sum := r.Header.Get("X-Amz-Checksum")
	switch {
	case err != nil || x.puts == nil:
		return nil, invalid("INVALID_PARAMETER_VALUE", "ChangedBlocksCount is missing, or the snapshot is none that is written by blocks")
	case x.state == "error":
		return nil, invalid("WRITE_REQUEST_TIMEOUT", "The snapshot was not completed in time")
	case count != len(x.puts):
		return nil, invalid("INVALID_PARAMETER_VALUE", fmt.Sprintf("ChangedBlocksCount is %d, and %d blocks were put", count, len(x.puts)))
	case sum != "" && (r.Header.Get("X-Amz-Checksum-Aggregation-Method") != "LINEAR" || r.Header.Get("X-Amz-Checksum-Algorithm") != "SHA256" || sum != x.linear()):
		return nil, invalid("INVALID_PARAMETER_VALUE", "The checksum does not match that of the blocks")
	}
	if x.open {
		x.open, x.due = false, s.now().Add(s.opts.Settle)
	}
	return jsonAnswer(http.StatusAccepted, map[string]string{"Status": x.state})
}

// blockToken says of which snapshot's which block somebody may read.
func blockToken(id string, index int64) string {
	return base64.StdEncoding.EncodeToString([]byte(id + "/" + strconv.FormatInt(index, 10)))
}

// getBlock: EBS/GetSnapshotBlock.
func (s *Server) getBlock(id string, r *http.Request) (*answer, error) {
	x, err := s.direct(id)
	if err != nil {
		return nil, err
	}
	index, err := strconv.ParseInt(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:], 10, 64)
	if err != nil || r.URL.Query().Get("blockToken") != blockToken(id, index) {
		return nil, invalid("INVALID_BLOCK_TOKEN", "The block token is not valid")
	}
	b, err := x.blocks[index].read()
	if err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, body: b, header: map[string]string{"X-Amz-Data-Length": strconv.Itoa(len(b)), "X-Amz-Checksum": digest(sha256.Sum256(b)),
		"X-Amz-Checksum-Algorithm": "SHA256", "Content-Type": "application/octet-stream"}}, nil
}

// listPage cuts a list of block indexes: maxResults from 100 to 10,000 and pageToken of EBS/ListSnapshotBlocks.
func listPage(r *http.Request, all []int64) (list []int64, next string, err error) {
	q := r.URL.Query()
	from, most := int64(0), 10_000
	if t := q.Get("startingBlockIndex"); t != "" {
		if from, err = strconv.ParseInt(t, 10, 64); err != nil || from < 0 {
			return nil, "", invalid("INVALID_PARAMETER_VALUE", "startingBlockIndex")
		}
	}
	if t := q.Get("pageToken"); t != "" {
		at, ok := strings.CutPrefix(t, "from-")
		if from, err = strconv.ParseInt(at, 10, 64); !ok || err != nil {
			return nil, "", invalid("INVALID_PAGE_TOKEN", "The page token is not valid")
		}
	}
	if t := q.Get("maxResults"); t != "" {
		if most, err = strconv.Atoi(t); err != nil || most < 100 || most > 10_000 {
			return nil, "", invalid("INVALID_PARAMETER_VALUE", "maxResults: from 100 to 10000")
		}
	}
	slices.Sort(all)
	at, _ := slices.BinarySearch(all, from)
	all = all[at:]
	if len(all) > most {
		return all[:most], fmt.Sprintf("from-%d", all[most]), nil
	}
	return all, "", nil
}

type listedBlock struct {
	BlockIndex       int64
	BlockToken       string `json:",omitempty"`
	FirstBlockToken  string `json:",omitempty"`
	SecondBlockToken string `json:",omitempty"`
}

func listing(name string, blocks []listedBlock, size int64, next string, now time.Time) (*answer, error) {
	if blocks == nil {
		blocks = []listedBlock{}
	}
	m := map[string]any{name: blocks, "VolumeSize": size >> 30, "BlockSize": BlockSize, "ExpiryTime": float64(now.Add(7*24*time.Hour).UnixMilli()) / 1000}
	if next != "" {
		m["NextToken"] = next
	}
	return jsonAnswer(http.StatusOK, m)
}

// complete finds a snapshot that can be read.
func (s *Server) complete(id string) (*snapshot, error) {
	x, err := s.direct(id)
	if err == nil && x.state != "completed" {
		err = invalid("INVALID_SNAPSHOT_ID", "The snapshot is not completed")
	}
	return x, err
}

// listBlocks: EBS/ListSnapshotBlocks: those that were ever written.
func (s *Server) listBlocks(id string, r *http.Request) (*answer, error) {
	x, err := s.complete(id)
	if err != nil {
		return nil, err
	}
	var all []int64
	for i := range x.blocks {
		all = append(all, i)
	}
	list, next, err := listPage(r, all)
	if err != nil {
		return nil, err
	}
	var out []listedBlock
	for _, i := range list {
		out = append(out, listedBlock{BlockIndex: i, BlockToken: blockToken(id, i)})
	}
	return listing("Blocks", out, x.size, next, s.now())
}

// changedBlocks: EBS/ListChangedBlocks. Blocks that are the same in both may be listed by AWS, too; here only those whose writes differ are.
func (s *Server) changedBlocks(id string, r *http.Request) (*answer, error) {
	x, err := s.complete(id)
	if err != nil {
		return nil, err
	}
	first := newContent(0, nil)
	firstID := r.URL.Query().Get("firstSnapshotId")
	if firstID != "" {
		f, err := s.complete(firstID)
		if err != nil {
			return nil, err
		}
		first = f.content
	}
	var all []int64
	for i, b := range x.blocks {
		if f, ok := first.blocks[i]; !ok || !f.same(b) {
			all = append(all, i)
		}
	}
	list, next, err := listPage(r, all)
	if err != nil {
		return nil, err
	}
	var out []listedBlock
	for _, i := range list {
		b := listedBlock{BlockIndex: i, SecondBlockToken: blockToken(id, i)}
		if _, ok := first.blocks[i]; ok {
			b.FirstBlockToken = blockToken(firstID, i)
		}
		out = append(out, b)
	}
	return listing("ChangedBlocks", out, x.size, next, s.now())
}
