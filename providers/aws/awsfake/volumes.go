package awsfake

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"
)

type volume struct {
	thing
	*content
	zone, snapshot, kind, kms string
	iops, throughput          int
	encrypted                 bool
	attached                  []*attachment
}

type attachment struct {
	instance, device, state string
	deleteOnTermination     bool
	at, due                 time.Time
}

// limits of a volume type: EC2/CreateVolume, parameters Size, Iops and Throughput.
type volumeKind struct {
	min, max                   int // GiB
	iops                       int // default
	minIOPS, maxIOPS           int // none: it cannot be set
	throughput                 int // default, MiB/s
	minThroughput, maxThrouput int
}

var volumeKinds = map[string]volumeKind{
	"gp3":      {1, 65536, 3000, 3000, 80000, 125, 125, 2000},
	"gp2":      {min: 1, max: 16384, iops: 100},
	"io1":      {4, 16384, 0, 100, 64000, 0, 0, 0},
	"io2":      {4, 65536, 0, 100, 256000, 0, 0, 0},
	"st1":      {min: 125, max: 16384},
	"sc1":      {min: 125, max: 16384},
	"standard": {min: 1, max: 1024},
}

var volumeForm = regexp.MustCompile(`^vol-[0-9a-f]{8}([0-9a-f]{9})?$`)

// volume finds one that a call names.
func (s *Server) volume(id string) (*volume, error) {
	if v := s.volumes[id]; v != nil && s.visible(v.created) {
		return v, nil
	}
	return nil, noVolume(id)
}

func noVolume(id string) error {
	if !volumeForm.MatchString(id) {
		return fail("InvalidParameterValue", fmt.Sprintf("Value (%s) for parameter volumeId is invalid. Expected: 'vol-...'.", id))
	}
	return fail("InvalidVolume.NotFound", fmt.Sprintf("The volume '%s' does not exist.", id))
}

// newVolume checks what CreateVolume and a block device mapping share, and makes the volume. What is wrong with a KMS key shows later: EC2/CreateVolume, KmsKeyId.
func (s *Server) newVolume(in params, size, zone string, dry bool) (*volume, error) {
	gib, err := in.int(size)
	if err != nil {
		return nil, err
	}
	v := &volume{zone: zone, snapshot: in["SnapshotId"], kind: in["VolumeType"], kms: in["KmsKeyId"], encrypted: in.bool("Encrypted")}
	if v.kind == "" {
		v.kind = "gp2"
	}
	k, ok := volumeKinds[v.kind]
	if !ok {
		return nil, fail("UnknownVolumeType", fmt.Sprintf("Unsupported volume type '%s' for volume creation.", v.kind))
	}
	var from *content
	if v.snapshot != "" {
		src, err := s.snapshot(v.snapshot)
		if err != nil {
			return nil, err
		}
		if src.state != "completed" {
			return nil, fail("IncorrectState", fmt.Sprintf("Snapshot %s is not completed.", src.id))
		}
		from, v.encrypted = src.content, v.encrypted || src.encrypted
		if least := int(src.size >> 30); gib == 0 {
			gib = least
		} else if gib < least {
			return nil, fail("InvalidParameterValue", fmt.Sprintf("Volume of %dGiB is smaller than snapshot '%s', expect size >= %dGiB", gib, src.id, least))
		}
	} else if gib == 0 {
		return nil, fail("MissingParameter", "The request must contain the parameter size or snapshotId")
	}
	if gib < k.min || gib > k.max {
		return nil, fail("InvalidParameterValue", fmt.Sprintf("Volume of %dGiB is not valid; expected from %d to %d for %s", gib, k.min, k.max, v.kind))
	}
	if v.iops, err = within(in, "Iops", k.iops, k.minIOPS, k.maxIOPS); err != nil {
		return nil, err
	}
	if v.throughput, err = within(in, "Throughput", k.throughput, k.minThroughput, k.maxThrouput); err != nil {
		return nil, err
	}
	if v.kms != "" && !v.encrypted {
		return nil, fail("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	}
	used := gib
	for _, x := range s.volumes {
		used += int(x.size >> 30)
	}
	if l := s.opts.Limits.VolumeGiB; l > 0 && used > l {
		return nil, fail("VolumeLimitExceeded", fmt.Sprintf("You have exceeded your maximum %s storage limit of %d GiB in this region.", v.kind, l))
	}
	v.content = newContent(int64(gib)<<30, from)
	if dry {
		return v, nil
	}
	v.thing = thing{id: s.id("vol"), created: s.now(), state: "creating", due: s.now().Add(s.opts.Settle)}
	s.volumes[v.id] = v
	return v, nil
}

func within(in params, name string, otherwise, least, most int) (int, error) {
	n, err := in.int(name)
	switch {
	case err != nil:
		return 0, err
	case in[name] == "":
		return otherwise, nil
	case most == 0:
		return 0, fail("InvalidParameterCombination", fmt.Sprintf("The parameter %s is not supported for this volume type.", name))
	case n < least || n > most:
		return 0, fail("InvalidParameterValue", fmt.Sprintf("%s of %d is not valid; expected from %d to %d", name, n, least, most))
	}
	return n, nil
}

// createVolume: EC2/CreateVolume.
func (s *Server) createVolume(c *call) ([]node, error) {
	zone := c.in["AvailabilityZone"]
	if err := c.in.need("AvailabilityZone"); err != nil {
		return nil, err
	}
	if !slices.Contains(s.Zones(), zone) {
		return nil, fail("InvalidZone.NotFound", fmt.Sprintf("The zone '%s' does not exist.", zone))
	}
	id, key, request, err := s.once(c)
	if err != nil {
		return nil, err
	}
	if id != "" {
		// The page does not say what a token gives whose volume was deleted; an error is the stricter choice.
		v := s.volumes[id]
		if v == nil {
			return nil, noVolume(id)
		}
		return v.nodes(), nil
	}
	tags, err := tagged(c.in, "volume")
	if err != nil {
		return nil, err
	}
	v, err := s.newVolume(c.in, "Size", zone, false)
	if err != nil {
		return nil, err
	}
	v.tags = tags["volume"]
	s.made(key, request, v.id)
	return v.nodes(), nil
}

func (v *volume) nodes() []node {
	return append(some(el("volumeId", v.id), el("size", v.size>>30), el("snapshotId", v.snapshot), el("availabilityZone", v.zone), el("status", v.status()), el("createTime", v.created),
		set("attachmentSet", v.attached, func(a *attachment) []node { return a.nodes(v.id) }), el("volumeType", v.kind), el("iops", unless0(v.iops)), el("throughput", unless0(v.throughput)),
		el("encrypted", v.encrypted), el("kmsKeyId", v.kms), el("multiAttachEnabled", false)), v.tagSet())
}

func unless0(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func (a *attachment) nodes(volume string) []node {
	return []node{el("volumeId", volume), el("instanceId", a.instance), el("device", a.device), el("status", a.state), el("attachTime", a.at),
		el("deleteOnTermination", a.deleteOnTermination)}
}

// status: EC2/Volume, State. A volume is in-use while it has an attachment.
func (v *volume) status() string {
	if v.state == "available" && len(v.attached) > 0 {
		return "in-use"
	}
	return v.state
}

// settleVolume moves a volume on.
func (s *Server) settleVolume(v *volume, now time.Time) {
	if !v.due.IsZero() && !now.Before(v.due) {
		v.due = time.Time{}
		switch v.state {
		case "creating":
			v.state = "available"
			if enabled, known := s.kmsKeys[v.kms]; v.kms != "" && (!known || !enabled) {
				v.state = "error"
			}
		case "deleting":
			delete(s.volumes, v.id)
		}
	}
	kept := v.attached[:0]
	for _, a := range v.attached {
		if !a.due.IsZero() && !now.Before(a.due) {
			a.due = time.Time{}
			if a.state == "detaching" {
				continue
			}
			a.state = "attached"
		}
		kept = append(kept, a)
	}
	v.attached = kept
}

func (v *volume) field(name string) ([]string, bool) {
	var out []string
	switch name {
	case "volume-id":
		out = []string{v.id}
	case "status":
		out = []string{v.status()}
	case "availability-zone":
		out = []string{v.zone}
	case "snapshot-id":
		out = []string{v.snapshot}
	case "volume-type":
		out = []string{v.kind}
	case "size":
		out = []string{strconv.FormatInt(v.size>>30, 10)}
	case "encrypted":
		out = []string{strconv.FormatBool(v.encrypted)}
	case "attachment.instance-id", "attachment.device", "attachment.status":
		for _, a := range v.attached {
			out = append(out, map[string]string{"attachment.instance-id": a.instance, "attachment.device": a.device, "attachment.status": a.state}[name])
		}
	default:
		return nil, false
	}
	return out, true
}

// describeVolumes: EC2/DescribeVolumes.
func (s *Server) describeVolumes(c *call) ([]node, error) {
	ids := c.in.list("VolumeId")
	if len(ids) > 0 && c.in["MaxResults"] != "" {
		return nil, fail("InvalidParameterCombination", "The parameter volumeSet cannot be used with the parameter maxResults")
	}
	list, err := described(s, c.in, ids, s.volumes, func(v *volume) *thing { return &v.thing }, (*volume).field, noVolume)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c.in, list, 5, 1000)
	return append(next, set("volumeSet", list, (*volume).nodes)), err
}

// device names: UG/device_naming. A root device may not be attached to.
var deviceName = regexp.MustCompile(`^(/dev/(sd[b-z]|xvd[a-d]?[a-z]))[0-9]*$`)

// attachVolume: EC2/AttachVolume.
func (s *Server) attachVolume(c *call) ([]node, error) {
	if err := c.in.need("VolumeId", "InstanceId", "Device"); err != nil {
		return nil, err
	}
	v, err := s.volume(c.in["VolumeId"])
	if err != nil {
		return nil, err
	}
	i, err := s.instance(c.in["InstanceId"])
	if err != nil {
		return nil, err
	}
	device := c.in["Device"]
	switch {
	case len(v.attached) > 0 && v.attached[0].instance == i.id:
		return nil, fail("VolumeInUse", fmt.Sprintf("%s is already attached to an instance", v.id))
	case len(v.attached) > 0:
		return nil, fail("VolumeInUse", fmt.Sprintf("%s is already attached to an instance", v.id))
	case v.state != "available":
		return nil, fail("IncorrectState", fmt.Sprintf("Volume '%s' is not 'available'.", v.id))
	case i.state != "running" && i.state != "stopped":
		return nil, fail("IncorrectState", fmt.Sprintf("Instance '%s' is not 'running'.", i.id))
	case v.zone != i.zone:
		return nil, fail("InvalidVolume.ZoneMismatch", fmt.Sprintf("The volume '%s' is not in the same availability zone as instance '%s'", v.id, i.id))
	case !deviceName.MatchString(device):
		return nil, fail("InvalidParameterValue", fmt.Sprintf("Value (%s) for parameter device is invalid. %s is not a valid EBS device name.", device, device))
	case s.onDevice(i.id, device) != nil:
		return nil, fail("InvalidParameterValue", fmt.Sprintf("Invalid value '%s' for unixDevice. Attachment point %s is already in use", device, device))
	case len(s.disks(i.id)) >= i.kind.attachments():
		return nil, fail("AttachmentLimitExceeded", fmt.Sprintf("Cannot attach volume '%s': instance %s has the most volumes that its type takes, %d", v.id, i.id, i.kind.attachments()))
	}
	a := &attachment{instance: i.id, device: device, state: "attaching", at: s.now(), due: s.now().Add(s.opts.Settle)}
	v.attached = []*attachment{a}
	return a.nodes(v.id), nil
}

// disks are the volumes of an instance, in the order of their device names.
func (s *Server) disks(instance string) []*volume {
	var list []*volume
	for _, v := range s.volumes {
		if len(v.attached) > 0 && v.attached[0].instance == instance {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b *volume) int {
		x, y := a.attached[0].device, b.attached[0].device
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		if x < y {
			return -1
		}
		return 1
	})
	return list
}

func (s *Server) onDevice(instance, device string) *volume {
	for _, v := range s.disks(instance) {
		if v.attached[0].device == device {
			return v
		}
	}
	return nil
}

// detachVolume: EC2/DetachVolume. The root of an instance that runs stays where it is.
func (s *Server) detachVolume(c *call) ([]node, error) {
	v, err := s.volume(c.in["VolumeId"])
	if err != nil {
		return nil, err
	}
	if len(v.attached) == 0 {
		return nil, fail("IncorrectState", fmt.Sprintf("Volume '%s' is in the 'available' state.", v.id))
	}
	a := v.attached[0]
	i := s.instances[a.instance]
	switch {
	case c.in["InstanceId"] != "" && c.in["InstanceId"] != a.instance:
		return nil, fail("InvalidAttachment.NotFound", fmt.Sprintf("The volume '%s' is not attached to instance '%s'.", v.id, c.in["InstanceId"]))
	case i != nil && i.image.root == a.device && i.state != "stopped":
		return nil, fail("OperationNotPermitted", fmt.Sprintf("Unable to detach root volume '%s' from instance '%s'", v.id, i.id))
	case a.state == "detaching":
		return nil, fail("IncorrectState", fmt.Sprintf("Volume '%s' is being detached.", v.id))
	}
	a.state, a.due = "detaching", s.now().Add(s.opts.Settle)
	return a.nodes(v.id), nil
}

// deleteVolume: EC2/DeleteVolume. The volume may stay in the state deleting for a while.
func (s *Server) deleteVolume(c *call) ([]node, error) {
	v, err := s.volume(c.in["VolumeId"])
	if err != nil {
		return nil, err
	}
	switch {
	case len(v.attached) > 0:
		return nil, fail("VolumeInUse", fmt.Sprintf("Volume %s is currently attached to %s", v.id, v.attached[0].instance))
	case v.state == "creating":
		return nil, &apiError{http.StatusBadRequest, "IncorrectState", fmt.Sprintf("The volume '%s' is 'creating'", v.id), ""}
	}
	if v.state != "deleting" {
		v.state, v.due = "deleting", s.now().Add(s.opts.Settle)
	}
	return []node{el("return", true)}, nil
}
