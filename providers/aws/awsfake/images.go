package awsfake

import (
	"fmt"
	"regexp"
	"slices"
)

type image struct {
	thing
	name, description, arch, bootMode, root, virt string
	ena, imdsv2                                   bool
	mappings                                      []mapping
}

// mapping is an entry of BlockDeviceMapping: what is below Ebs, by name.
type mapping struct {
	device string
	in     params
}

func mappings(in params) []mapping {
	var out []mapping
	for _, m := range in.structs("BlockDeviceMapping") {
		e := mapping{device: m["DeviceName"], in: params{}}
		for k, v := range m {
			if len(k) > 4 && k[:4] == "Ebs." {
				e.in[k[4:]] = v
			}
		}
		out = append(out, e)
	}
	return out
}

const mappingParams = "BlockDeviceMapping.#.DeviceName BlockDeviceMapping.#.Ebs.SnapshotId BlockDeviceMapping.#.Ebs.VolumeSize BlockDeviceMapping.#.Ebs.VolumeType " +
	"BlockDeviceMapping.#.Ebs.Iops BlockDeviceMapping.#.Ebs.Throughput BlockDeviceMapping.#.Ebs.DeleteOnTermination BlockDeviceMapping.#.Ebs.Encrypted " +
	"BlockDeviceMapping.#.Ebs.KmsKeyId "

// names of images: EC2/RegisterImage, Name.
var imageName = regexp.MustCompile(`^[a-zA-Z0-9()\[\] ./\-'@_]{3,128}$`)

// registerImage: EC2/RegisterImage. It has no client token; the name is unique in account and region.
func (s *Server) registerImage(c *call) ([]node, error) {
	if err := c.in.need("Name", "RootDeviceName"); err != nil {
		return nil, err
	}
	i := &image{name: c.in["Name"], description: c.in["Description"], arch: c.in["Architecture"], bootMode: c.in["BootMode"], root: c.in["RootDeviceName"],
		virt: c.in["VirtualizationType"], ena: c.in.bool("EnaSupport"), imdsv2: c.in["ImdsSupport"] == "v2.0", mappings: mappings(c.in)}
	if i.arch == "" {
		i.arch = "i386" // the documented default for images of snapshots
	}
	if i.virt == "" {
		i.virt = "paravirtual"
	}
	switch {
	case !imageName.MatchString(i.name):
		return nil, fail("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', '-', '/' and '_'")
	case !slices.Contains([]string{"i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"}, i.arch):
		return nil, fail("InvalidParameterValue", "Value ("+i.arch+") for parameter architecture is invalid.")
	case !slices.Contains([]string{"", "legacy-bios", "uefi", "uefi-preferred"}, i.bootMode):
		return nil, fail("InvalidParameterValue", "Value ("+i.bootMode+") for parameter bootMode is invalid.")
	case i.arch == "arm64" && i.bootMode == "legacy-bios": // UG/ami-boot
		return nil, fail("InvalidParameterCombination", "The boot mode legacy-bios is not supported for the architecture arm64")
	}
	for _, x := range s.images {
		if x.name == i.name {
			return nil, fail("InvalidAMIName.Duplicate", fmt.Sprintf("AMI name %s is already in use by AMI %s", i.name, x.id))
		}
	}
	if !slices.ContainsFunc(i.mappings, func(m mapping) bool { return m.device == i.root && m.in["SnapshotId"] != "" }) {
		return nil, fail("InvalidBlockDeviceMapping", "The root device "+i.root+" has no snapshot in the block device mapping")
	}
	if err := s.checkMappings(i.mappings); err != nil {
		return nil, err
	}
	tags, err := tagged(c.in, "image", "snapshot")
	if err != nil {
		return nil, err
	}
	i.thing = thing{id: s.id("ami"), tags: tags["image"], created: s.now(), state: "pending", due: s.now().Add(s.opts.Settle)}
	s.images[i.id] = i
	return []node{el("imageId", i.id)}, nil
}

// checkMappings looks whether volumes could be made.
func (s *Server) checkMappings(list []mapping) error {
	seen := map[string]bool{}
	for _, m := range list {
		if m.device == "" || seen[m.device] {
			return fail("InvalidBlockDeviceMapping", "device name '"+m.device+"' is missing or named twice")
		}
		seen[m.device] = true
		if _, err := s.newVolume(m.in, "VolumeSize", "", true); err != nil {
			return err
		}
	}
	return nil
}

func (i *image) nodes() []node {
	return append(some(el("imageId", i.id), el("imageLocation", Account+"/"+i.name), el("imageState", i.state), el("imageOwnerId", Account), el("isPublic", false),
		el("architecture", i.arch), el("imageType", "machine"), el("name", i.name), el("description", i.description), el("rootDeviceType", "ebs"), el("rootDeviceName", i.root),
		el("virtualizationType", i.virt), el("hypervisor", "xen"), el("enaSupport", i.ena), el("bootMode", i.bootMode), el("creationDate", i.created),
		set("blockDeviceMapping", i.mappings, func(m mapping) []node {
			return []node{el("deviceName", m.device), el("ebs", some(el("snapshotId", m.in["SnapshotId"]), el("volumeSize", m.in["VolumeSize"]), el("volumeType", m.in["VolumeType"]),
				el("iops", m.in["Iops"]), el("throughput", m.in["Throughput"]), el("encrypted", m.in["Encrypted"]), el("deleteOnTermination", m.in["DeleteOnTermination"])))}
		})), i.tagSet())
}

func (i *image) field(name string) ([]string, bool) {
	switch name {
	case "image-id":
		return []string{i.id}, true
	case "name":
		return []string{i.name}, true
	case "state":
		return []string{i.state}, true
	case "architecture":
		return []string{i.arch}, true
	case "owner-id":
		return []string{Account}, true
	case "block-device-mapping.snapshot-id":
		var out []string
		for _, m := range i.mappings {
			out = append(out, m.in["SnapshotId"])
		}
		return out, true
	}
	return nil, false
}

var imageForm = regexp.MustCompile(`^ami-[0-9a-f]{8}([0-9a-f]{9})?$`)

func noImage(id string) error {
	if !imageForm.MatchString(id) {
		return fail("InvalidAMIID.Malformed", fmt.Sprintf("Invalid id: \"%s\" (expecting \"ami-...\")", id))
	}
	return fail("InvalidAMIID.NotFound", fmt.Sprintf("The image id '[%s]' does not exist", id))
}

// describeImages: EC2/DescribeImages.
func (s *Server) describeImages(c *call) ([]node, error) {
	for _, o := range c.in.list("Owner") {
		if o != "self" && o != Account {
			return []node{el("imagesSet")}, nil
		}
	}
	list, err := described(s, c.in, c.in.list("ImageId"), s.images, func(i *image) *thing { return &i.thing }, (*image).field, noImage)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c.in, list, 5, 1000)
	return append(next, set("imagesSet", list, (*image).nodes)), err
}

// deregisterImage: EC2/DeregisterImage. Instances that were started from it go on.
func (s *Server) deregisterImage(c *call) ([]node, error) {
	i := s.images[c.in["ImageId"]]
	if i == nil || !s.visible(i.created) {
		return nil, noImage(c.in["ImageId"])
	}
	delete(s.images, i.id)
	return []node{el("return", true)}, nil
}
