package awsfake

import (
	"fmt"
	"regexp"
	"strconv"
)

type snapshot struct {
	thing
	*content
	volume, parent, description string
	encrypted                   bool
	kms                         string
	// Of one that is written through the direct APIs:
	open    bool
	puts    map[int64][32]byte // checksums of the blocks that were put
	timeout int                // minutes
}

var snapshotForm = regexp.MustCompile(`^snap-[0-9a-f]{8}([0-9a-f]{9})?$`)

func (s *Server) snapshot(id string) (*snapshot, error) {
	if x := s.snapshots[id]; x != nil && s.visible(x.created) {
		return x, nil
	}
	return nil, noSnapshot(id)
}

func noSnapshot(id string) error {
	if !snapshotForm.MatchString(id) {
		return fail("InvalidParameterValue", fmt.Sprintf("Value (%s) for parameter snapshotId is invalid. Expected: 'snap-...'.", id))
	}
	return fail("InvalidSnapshot.NotFound", fmt.Sprintf("The snapshot '%s' does not exist.", id))
}

func (s *Server) snapshotRoom() error {
	if l := s.opts.Limits.Snapshots; l > 0 && len(s.snapshots) >= l {
		return fail("SnapshotLimitExceeded", "You have exceeded your snapshot limit in this region.")
	}
	return nil
}

// createSnapshot: EC2/CreateSnapshot. It has no client token. What the volume holds at the call is what the snapshot holds.
func (s *Server) createSnapshot(c *call) ([]node, error) {
	if err := c.in.need("VolumeId"); err != nil {
		return nil, err
	}
	v, err := s.volume(c.in["VolumeId"])
	if err != nil {
		return nil, err
	}
	if v.state != "available" {
		return nil, fail("IncorrectState", fmt.Sprintf("Volume %s is not available or in-use: %s", v.id, v.state))
	}
	tags, err := tagged(c.in, "snapshot")
	if err != nil {
		return nil, err
	}
	if err := s.snapshotRoom(); err != nil {
		return nil, err
	}
	x := &snapshot{thing: thing{id: s.id("snap"), tags: tags["snapshot"], created: s.now(), state: "pending", due: s.now().Add(s.opts.Settle)},
		content: newContent(v.size, v.content), volume: v.id, description: c.in["Description"], encrypted: v.encrypted, kms: v.kms}
	s.snapshots[x.id] = x
	return x.nodes(), nil
}

func (x *snapshot) nodes() []node {
	progress := "100%"
	if x.state != "completed" {
		progress = "0%"
	}
	volume := x.volume
	if volume == "" {
		volume = "vol-ffffffff" // EC2/Snapshot: of snapshots that no volume was the source of, the id is arbitrary
	}
	return append(some(el("snapshotId", x.id), el("volumeId", volume), el("status", x.state), el("startTime", x.created), el("progress", progress), el("ownerId", Account),
		el("volumeSize", x.size>>30), el("description", x.description), el("encrypted", x.encrypted), el("kmsKeyId", x.kms), el("storageTier", "standard")), x.tagSet())
}

func (x *snapshot) field(name string) ([]string, bool) {
	switch name {
	case "snapshot-id":
		return []string{x.id}, true
	case "status":
		return []string{x.state}, true
	case "volume-id":
		return []string{x.volume}, true
	case "volume-size":
		return []string{strconv.FormatInt(x.size>>30, 10)}, true
	case "description":
		return []string{x.description}, true
	case "owner-id":
		return []string{Account}, true
	case "start-time":
		return []string{x.created.UTC().Format("2006-01-02T15:04:05.000Z")}, true
	}
	return nil, false
}

// describeSnapshots: EC2/DescribeSnapshots. All are the account's own here, and none is public.
func (s *Server) describeSnapshots(c *call) ([]node, error) {
	for _, o := range c.in.list("Owner") {
		if o != "self" && o != Account {
			return []node{el("snapshotSet")}, nil
		}
	}
	ids := c.in.list("SnapshotId")
	if len(ids) > 0 && c.in["MaxResults"] != "" {
		return nil, fail("InvalidParameterCombination", "The parameter snapshotSet cannot be used with the parameter maxResults")
	}
	list, err := described(s, c.in, ids, s.snapshots, func(x *snapshot) *thing { return &x.thing }, (*snapshot).field, noSnapshot)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c.in, list, 5, 1000)
	return append(next, set("snapshotSet", list, (*snapshot).nodes)), err
}

// deleteSnapshot: EC2/DeleteSnapshot. One that an image is made of cannot be deleted; one that others build upon can.
func (s *Server) deleteSnapshot(c *call) ([]node, error) {
	x, err := s.snapshot(c.in["SnapshotId"])
	if err != nil {
		return nil, err
	}
	for _, i := range s.images {
		for _, m := range i.mappings {
			if m.in["SnapshotId"] == x.id {
				return nil, fail("InvalidSnapshot.InUse", fmt.Sprintf("The snapshot %s is currently in use by %s", x.id, i.id))
			}
		}
	}
	delete(s.snapshots, x.id)
	return []node{el("return", true)}, nil
}
