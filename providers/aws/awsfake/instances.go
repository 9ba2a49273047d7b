package awsfake

import (
	"bytes"
	"encoding/base64"
	"fmt"
	stdimage "image"
	"image/color"
	"image/jpeg"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

type instance struct {
	thing
	kind             *Type
	image            *image
	zone, profile    string
	nics             []*nic
	token            string
	protected        bool
	tokens, tenancy  string
	reason, shutdown string
	licences         []string
	console          []byte
	launched         time.Time
	market           string
}

type nic struct {
	thing
	subnet *subnet
	groups []string
	mac    string
	addr   string
	delete bool
}

var instanceForm = regexp.MustCompile(`^i-[0-9a-f]{8}([0-9a-f]{9})?$`)

func (s *Server) instance(id string) (*instance, error) {
	if i := s.instances[id]; i != nil && s.visible(i.created) {
		return i, nil
	}
	return nil, noInstance(id)
}

func noInstance(id string) error {
	if !instanceForm.MatchString(id) {
		return fail("InvalidInstanceID.Malformed", fmt.Sprintf("Invalid id: \"%s\"", id))
	}
	return fail("InvalidInstanceID.NotFound", fmt.Sprintf("The instance ID '%s' does not exist", id))
}

const runParams = "ImageId InstanceType MinCount MaxCount ClientToken SubnetId SecurityGroupId.# PrivateIpAddress KeyName UserData EbsOptimized DisableApiTermination " +
	"InstanceInitiatedShutdownBehavior IamInstanceProfile.Arn IamInstanceProfile.Name Placement.AvailabilityZone Placement.Tenancy Placement.GroupName Placement.HostId " +
	"MetadataOptions.HttpTokens MetadataOptions.HttpEndpoint MetadataOptions.HttpPutResponseHopLimit MetadataOptions.InstanceMetadataTags Monitoring.Enabled " +
	"LicenseSpecification.#.LicenseConfigurationArn InstanceMarketOptions.MarketType " + mappingParams +
	"NetworkInterface.#.DeviceIndex NetworkInterface.#.SubnetId NetworkInterface.#.SecurityGroupId.# NetworkInterface.#.PrivateIpAddress NetworkInterface.#.DeleteOnTermination " +
	"NetworkInterface.#.Description NetworkInterface.#.AssociatePublicIpAddress " + tagParams

// runInstances: EC2/RunInstances, of one instance at a time. What is refused has made nothing.
func (s *Server) runInstances(c *call) ([]node, error) {
	in := c.in
	if err := in.need("ImageId", "InstanceType", "MinCount", "MaxCount"); err != nil {
		return nil, err
	}
	if in["MinCount"] != "1" || in["MaxCount"] != "1" {
		return nil, fail("InvalidParameterCombination", "this endpoint runs one instance a call")
	}
	// A token that was used gives what it gave, whatever became of the image since: "Ensuring idempotency in Amazon EC2 API requests".
	id, key, request, err := s.once(c)
	if err != nil {
		return nil, err
	}
	if id != "" {
		if i := s.instances[id]; i != nil {
			return s.reservation(i), nil
		}
		return nil, noInstance(id)
	}
	img := s.images[in["ImageId"]]
	if img == nil || !s.visible(img.created) {
		return nil, noImage(in["ImageId"])
	}
	t := s.types[in["InstanceType"]]
	if t == nil {
		return nil, fail("InvalidParameterValue", fmt.Sprintf("Invalid value '%s' for InstanceType.", in["InstanceType"]))
	}
	if img.state != "available" {
		return nil, fail("InvalidAMIID.Unavailable", fmt.Sprintf("The image ID '%s' is not available", img.id))
	}
	i := &instance{kind: t, image: img, token: in["ClientToken"], protected: in.bool("DisableApiTermination"), tokens: in["MetadataOptions.HttpTokens"], profile: in["IamInstanceProfile.Arn"] + in["IamInstanceProfile.Name"],
		shutdown: in["InstanceInitiatedShutdownBehavior"], tenancy: in["Placement.Tenancy"], market: in["InstanceMarketOptions.MarketType"]}
	i.thing = thing{id: s.id("i"), created: s.now(), state: "pending", due: s.now().Add(s.opts.Settle)}
	i.launched = i.created
	for _, l := range in.structs("LicenseSpecification") {
		i.licences = append(i.licences, l["LicenseConfigurationArn"])
	}
	list := merged(img.mappings, mappings(in))
	tags, err := tagged(in, "instance", "volume", "network-interface", "spot-instances-request")
	if err == nil {
		err = s.fits(i, list)
	}
	if err == nil {
		err = s.plug(i, in)
	}
	if err == nil {
		err = s.checkMappings(list)
	}
	if err == nil && !t.offered(i.zone) {
		err = fail("Unsupported", fmt.Sprintf("Your requested instance type (%s) is not supported in your requested Availability Zone (%s).", t.Name, i.zone))
	}
	if z := in["Placement.AvailabilityZone"]; err == nil && z != "" && z != i.zone {
		err = fail("InvalidParameterValue", "The availability zone "+z+" is not that of the subnet")
	}
	if err != nil {
		i.unplug()
		return nil, err
	}
	i.tags = tags["instance"]
	for _, n := range i.nics {
		n.tags = tags["network-interface"]
	}
	for _, m := range list {
		v, err := s.newVolume(m.in, "VolumeSize", i.zone, false)
		if err != nil { // not after checkMappings, but for all of them together
			for _, x := range s.disks(i.id) {
				delete(s.volumes, x.id)
			}
			i.unplug()
			return nil, err
		}
		v.tags = tags["volume"]
		keep := m.in["DeleteOnTermination"] == "false"
		v.attached = []*attachment{{instance: i.id, device: m.device, state: "attaching", deleteOnTermination: !keep, at: s.now(), due: s.now().Add(s.opts.Settle)}}
	}
	s.instances[i.id] = i
	s.made(key, request, i.id)
	return s.reservation(i), nil
}

// merged are the mappings of an image with those of a call over them: EC2/BlockDeviceMapping.
func merged(of []mapping, over []mapping) []mapping {
	var out []mapping
	for _, m := range of {
		x := mapping{m.device, params{}}
		for k, v := range m.in {
			x.in[k] = v
		}
		for _, o := range over {
			if o.device == m.device {
				for k, v := range o.in {
					x.in[k] = v
				}
			}
		}
		out = append(out, x)
	}
	for _, o := range over {
		if !slices.ContainsFunc(of, func(m mapping) bool { return m.device == o.device }) {
			out = append(out, o)
		}
	}
	return out
}

// fits checks an instance against its image, type and the account's limits.
func (s *Server) fits(i *instance, list []mapping) error {
	t, img := i.kind, i.image
	mode := img.bootMode
	if mode == "uefi-preferred" || mode == "" {
		mode = "legacy-bios"
		if !slices.Contains(t.BootModes, mode) {
			mode = "uefi"
		}
	}
	switch {
	case !slices.Contains(t.Arch, img.arch):
		return fail("InvalidParameterValue", fmt.Sprintf("The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI.", strings.Join(t.Arch, ","), img.arch))
	case img.virt != "hvm":
		return fail("InvalidParameterCombination", "Non-HVM images are not supported for the instance type "+t.Name)
	case !slices.Contains(t.BootModes, mode):
		return fail("InvalidParameterCombination", fmt.Sprintf("The boot mode '%s' of the AMI is not supported by the instance type %s", mode, t.Name))
	case t.Hypervisor == "nitro" && !img.ena:
		return fail("InvalidParameterCombination", "Enhanced networking with the Elastic Network Adapter (ENA) is required for the '"+t.Name+"' instance type.")
	case len(list) > t.attachments():
		return fail("AttachmentLimitExceeded", fmt.Sprintf("The instance type %s takes up to %d volumes, not %d", t.Name, t.attachments(), len(list)))
	}
	used := t.VCPUs
	for _, x := range s.instances {
		if x.state == "running" || x.state == "pending" {
			used += x.kind.VCPUs
		}
	}
	if l := s.opts.Limits.VCPUs; l > 0 && used > l {
		return fail("VcpuLimitExceeded", fmt.Sprintf("You have requested more vCPU capacity than your current vCPU limit of %d allows for the instance bucket that the specified instance type belongs to.", l))
	}
	return nil
}

// plug gives an instance its cards.
func (s *Server) plug(i *instance, in params) error {
	cards := in.structs("NetworkInterface")
	if len(cards) > 0 && (in["SubnetId"] != "" || in["SecurityGroupId.1"] != "" || in["PrivateIpAddress"] != "") {
		return fail("InvalidParameterCombination", "Network interfaces and an instance-level subnet ID may not be specified on the same request")
	}
	if len(cards) == 0 {
		card := params{"DeviceIndex": "0", "SubnetId": in["SubnetId"], "PrivateIpAddress": in["PrivateIpAddress"]}
		for n, g := range in.list("SecurityGroupId") {
			card["SecurityGroupId."+strconv.Itoa(n+1)] = g
		}
		if card["SubnetId"] == "" {
			for _, x := range s.subnets {
				if x.zone == s.Zones()[0] {
					card["SubnetId"] = x.id
				}
			}
		}
		cards = []params{card}
	}
	if len(cards) > i.kind.NICs {
		return fail("AttachmentLimitExceeded", fmt.Sprintf("Interface count %d exceeds the limit for %s", len(cards), i.kind.Name))
	}
	for n, card := range cards {
		if card["DeviceIndex"] != strconv.Itoa(n) {
			return fail("InvalidParameterValue", "network interfaces need the device indexes 0, 1, …")
		}
		sub := s.subnets[card["SubnetId"]]
		if sub == nil {
			return noSubnet(card["SubnetId"])
		}
		if n > 0 && sub.zone != i.zone {
			return fail("InvalidParameterCombination", "You may not specify subnets in different availability zones")
		}
		i.zone = sub.zone
		x := &nic{subnet: sub, delete: card["DeleteOnTermination"] != "false", groups: card.list("SecurityGroupId")}
		x.thing = thing{id: s.id("eni"), created: s.now(), state: "in-use"}
		for _, g := range x.groups {
			if s.groups[g] == nil {
				return noGroup(g)
			}
		}
		if x.groups == nil {
			for _, g := range s.groups {
				if g.name == "default" {
					x.groups = []string{g.id}
				}
			}
		}
		a, err := sub.address(card["PrivateIpAddress"], i.id)
		if err != nil {
			return err
		}
		s.serial++
		x.addr, x.mac = a.String(), fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", s.serial>>24&0xff, s.serial>>16&0xff, s.serial>>8&0xff, s.serial&0xff)
		i.nics = append(i.nics, x)
	}
	return nil
}

func (i *instance) unplug() {
	for _, n := range i.nics {
		n.subnet.release(i.id)
	}
}

var stateCodes = map[string]int{"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80} // EC2/InstanceState

func stateNode(name, state string) node {
	return el(name, el("code", stateCodes[state]), el("name", state))
}

func (s *Server) reservation(i *instance) []node {
	return []node{el("reservationId", "r-"+i.id[2:]), el("ownerId", Account), el("groupSet"), el("instancesSet", el("item", s.instanceNodes(i)))}
}

func (s *Server) instanceNodes(i *instance) []node {
	mode := i.image.bootMode
	if mode == "" {
		mode = "legacy-bios"
	}
	n := some(el("instanceId", i.id), el("imageId", i.image.id), stateNode("instanceState", i.state), el("instanceType", i.kind.Name), el("launchTime", i.launched),
		el("placement", some(el("availabilityZone", i.zone), el("tenancy", "default"))), el("architecture", i.image.arch), el("rootDeviceType", "ebs"), el("rootDeviceName", i.image.root),
		el("virtualizationType", "hvm"), el("clientToken", i.token), el("hypervisor", i.kind.Hypervisor), el("enaSupport", i.image.ena), el("bootMode", i.image.bootMode),
		el("currentInstanceBootMode", mode), el("instanceLifecycle", i.market), el("amiLaunchIndex", 0))
	if i.profile != "" {
		n = append(n, el("iamInstanceProfile", el("arn", i.profile)))
	}
	if i.tokens != "" {
		n = append(n, el("metadataOptions", el("state", "applied"), el("httpTokens", i.tokens), el("httpEndpoint", "enabled")))
	}
	if i.reason != "" {
		n = append(n, el("stateReason", el("code", i.reason), el("message", i.reason+": the instance ended")), el("reason", i.reason))
	}
	n = append(n, set("licenseSet", i.licences, func(l string) []node { return []node{el("licenseConfigurationArn", l)} }))
	if i.state != "terminated" && len(i.nics) > 0 {
		n = append(n, el("subnetId", i.nics[0].subnet.id), el("vpcId", VPC), el("privateIpAddress", i.nics[0].addr))
		n = append(n, set("networkInterfaceSet", i.nics, func(x *nic) []node {
			at := slices.Index(i.nics, x)
			return []node{el("networkInterfaceId", x.id), el("subnetId", x.subnet.id), el("vpcId", VPC), el("status", "in-use"), el("macAddress", x.mac), el("privateIpAddress", x.addr),
				el("sourceDestCheck", true), set("groupSet", x.groups, func(g string) []node { return []node{el("groupId", g), el("groupName", s.groups[g].name)} }),
				el("attachment", el("attachmentId", "eni-attach-"+x.id[4:]), el("deviceIndex", at), el("status", "attached"), el("deleteOnTermination", x.delete)),
				el("privateIpAddressesSet", el("item", el("privateIpAddress", x.addr), el("primary", true)))}
		}))
	}
	return append(n, set("blockDeviceMapping", s.disks(i.id), func(v *volume) []node {
		a := v.attached[0]
		return []node{el("deviceName", a.device), el("ebs", el("volumeId", v.id), el("status", a.state), el("attachTime", a.at), el("deleteOnTermination", a.deleteOnTermination))}
	}), i.tagSet())
}

// forget is for how long a terminated instance is still shown: EC2/TerminateInstances, "approximately one hour".
const forget = time.Hour

// settleInstance moves an instance on.
func (s *Server) settleInstance(i *instance, now time.Time) {
	if i.due.IsZero() || now.Before(i.due) {
		return
	}
	i.due = time.Time{}
	switch i.state {
	case "pending":
		for _, v := range s.disks(i.id) {
			if v.state == "error" { // UG/troubleshooting-launch, Client.InvalidKMSKey.InvalidState
				i.reason = "Client.InvalidKMSKey.InvalidState"
				s.end(i, now)
				return
			}
		}
		i.state = "running"
		if s.opts.Boot != nil {
			i.console = append(i.console, s.opts.Boot(i.id)...)
		}
	case "stopping":
		i.state = "stopped"
	case "shutting-down":
		s.end(i, now)
	case "terminated":
		delete(s.instances, i.id)
	}
}

// end takes what an instance has: volumes that are marked go with it, others are free again.
func (s *Server) end(i *instance, now time.Time) {
	i.state, i.due = "terminated", now.Add(forget)
	for _, v := range s.disks(i.id) {
		if v.attached[0].deleteOnTermination {
			delete(s.volumes, v.id)
		} else {
			v.attached = nil
		}
	}
	i.unplug()
}

// settle moves everything on that has been on its way for long enough. The caller holds mu.
func (s *Server) settle() {
	now := s.now()
	for _, v := range s.volumes {
		s.settleVolume(v, now)
	}
	for _, x := range s.snapshots {
		if !x.due.IsZero() && !now.Before(x.due) {
			if x.due = (time.Time{}); x.open {
				x.state, x.open = "error", false // EBS/StartSnapshot, Timeout
			} else {
				x.state = "completed"
			}
		}
	}
	for _, x := range s.images {
		if !x.due.IsZero() && !now.Before(x.due) {
			x.state, x.due = "available", time.Time{}
		}
	}
	for _, i := range s.instances {
		s.settleInstance(i, now)
	}
}

func (s *Server) instanceField(i *instance, name string) ([]string, bool) {
	var out []string
	switch name {
	case "instance-id":
		return []string{i.id}, true
	case "client-token":
		return []string{i.token}, true
	case "instance-state-name":
		return []string{i.state}, true
	case "instance-type":
		return []string{i.kind.Name}, true
	case "image-id":
		return []string{i.image.id}, true
	case "availability-zone":
		return []string{i.zone}, true
	case "subnet-id", "network-interface.subnet-id":
		for _, n := range i.nics {
			out = append(out, n.subnet.id)
		}
		return out, true
	case "block-device-mapping.volume-id":
		for _, v := range s.disks(i.id) {
			out = append(out, v.id)
		}
		return out, true
	}
	return nil, false
}

func (s *Server) foundInstances(c *call) ([]*instance, error) {
	ids := c.in.list("InstanceId")
	if len(ids) > 0 && c.in["MaxResults"] != "" {
		return nil, fail("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	return described(s, c.in, ids, s.instances, func(i *instance) *thing { return &i.thing }, s.instanceField, noInstance)
}

// describeInstances: EC2/DescribeInstances.
func (s *Server) describeInstances(c *call) ([]node, error) {
	list, err := s.foundInstances(c)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c.in, list, 5, 1000)
	return append(next, set("reservationSet", list, s.reservation)), err
}

// describeStatus: EC2/DescribeInstanceStatus, by default only of those that run.
func (s *Server) describeStatus(c *call) ([]node, error) {
	list, err := s.foundInstances(c)
	if err != nil {
		return nil, err
	}
	if !c.in.bool("IncludeAllInstances") {
		list = slices.DeleteFunc(list, func(i *instance) bool { return i.state != "running" })
	}
	return []node{set("instanceStatusSet", list, func(i *instance) []node {
		return []node{el("instanceId", i.id), el("availabilityZone", i.zone), stateNode("instanceState", i.state), el("systemStatus", el("status", "ok")), el("instanceStatus", el("status", "ok"))}
	})}, nil
}

// changeState: EC2/StartInstances, EC2/StopInstances and EC2/TerminateInstances. Either all that are named can be changed, or none is.
func (s *Server) changeState(c *call) ([]node, error) {
	ids := c.in.list("InstanceId")
	if len(ids) == 0 {
		return nil, fail("MissingParameter", "The request must contain the parameter InstanceId")
	}
	var list []*instance
	for _, id := range ids {
		i, err := s.instance(id)
		if err != nil {
			return nil, err
		}
		switch {
		case c.action == "TerminateInstances" && i.protected:
			return nil, fail("OperationNotPermitted", fmt.Sprintf("The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", id))
		case c.action == "StartInstances" && i.state != "stopped" && i.state != "running" && i.state != "pending",
			c.action == "StopInstances" && i.state != "running" && i.state != "stopping" && i.state != "stopped":
			return nil, fail("IncorrectInstanceState", fmt.Sprintf("The instance '%s' is not in a state from which it can be changed: it is %s.", id, i.state))
		}
		list = append(list, i)
	}
	return []node{set("instancesSet", list, func(i *instance) []node {
		was := i.state
		to := map[string]string{"StartInstances": "pending", "StopInstances": "stopping", "TerminateInstances": "shutting-down"}[c.action]
		if (c.action != "StartInstances" || i.state == "stopped") && (c.action != "StopInstances" || i.state == "running") && i.state != "terminated" && i.state != "shutting-down" {
			i.state, i.due = to, s.now().Add(s.opts.Settle)
		}
		return []node{el("instanceId", i.id), stateNode("currentState", i.state), stateNode("previousState", was)}
	})}, nil
}

// modifyInstance: EC2/ModifyInstanceAttribute, of the one attribute that is needed.
func (s *Server) modifyInstance(c *call) ([]node, error) {
	i, err := s.instance(c.in["InstanceId"])
	if err != nil {
		return nil, err
	}
	if err := c.in.need("DisableApiTermination.Value"); err != nil {
		return nil, err
	}
	i.protected = c.in.bool("DisableApiTermination.Value")
	return []node{el("return", true)}, nil
}

// consoleOutput: EC2/GetConsoleOutput, up to 64 KiB in base64.
func (s *Server) consoleOutput(c *call) ([]node, error) {
	i, err := s.instance(c.in["InstanceId"])
	if err != nil {
		return nil, err
	}
	text := i.console[max(0, len(i.console)-64<<10):]
	return []node{el("instanceId", i.id), el("timestamp", s.now()), el("output", base64.StdEncoding.EncodeToString(text))}, nil
}

// screenshot: EC2/GetConsoleScreenshot, JPEG in base64, of an instance that runs.
func (s *Server) screenshot(c *call) ([]node, error) {
	i, err := s.instance(c.in["InstanceId"])
	if err != nil {
		return nil, err
	}
	if i.state != "running" {
		return nil, fail("IncorrectInstanceState", fmt.Sprintf("The instance '%s' is not in the 'running' state.", i.id))
	}
	picture := stdimage.NewGray(stdimage.Rect(0, 0, 720, 400))
	for x := range 720 {
		picture.SetGray(x, x*400/720, color.Gray{200})
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, picture, nil); err != nil {
		return nil, err
	}
	return []node{el("instanceId", i.id), el("imageData", base64.StdEncoding.EncodeToString(b.Bytes()))}, nil
}

// Say adds to what an instance's console shows.
func (s *Server) Say(instance, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.instances[instance]; i != nil {
		i.console = append(i.console, text...)
	}
}

// Operator makes an instance that no call made and that runs in the first zone, such as an operator's own host. It has no volumes.
func (s *Server) Operator(tags map[string]string) string {
	subnet := s.Subnets()[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	i := &instance{thing: thing{id: s.id("i"), created: s.now(), state: "running", tags: tags}, kind: s.types["t3.micro"], launched: s.now(),
		image: &image{thing: thing{id: s.id("ami")}, arch: "x86_64", root: "/dev/xvda", virt: "hvm", ena: true}}
	if err := s.plug(i, params{"SubnetId": subnet}); err != nil {
		panic(err) // a new server has room
	}
	s.instances[i.id] = i
	return i.id
}

// Live counts what there is and is not gone, by kind, of all owners.
func (s *Server) Live() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	n := map[string]int{"volume": len(s.volumes), "snapshot": len(s.snapshots), "image": len(s.images)}
	for _, i := range s.instances {
		if i.state != "terminated" {
			n["instance"]++
			n["network-interface"] += len(i.nics)
		}
	}
	return n
}
