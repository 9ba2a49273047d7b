package awsfake

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// VPC is the one that there is.
const VPC = "vpc-0a0a0a0a0a0a0a0a0"

type subnet struct {
	thing
	zone string
	cidr netip.Prefix
	used map[netip.Addr]string // by what
	room int                   // addresses; fewer than the prefix has, to be full sooner
}

type group struct {
	thing
	name, description string
	in, out           []rule
}

// rule is a permission of a security group.
type rule struct {
	protocol, cidr, group string
	from, to              string
}

// network makes what a new account has.
func (s *Server) network() {
	for n, z := range s.Zones() {
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(16 * n), 0}), 20)
		sub := &subnet{thing: thing{id: s.id("subnet"), tags: map[string]string{"Name": "default-" + z}, state: "available"}, zone: z, cidr: cidr, used: map[netip.Addr]string{}, room: 4091}
		s.subnets[sub.id] = sub
	}
	g := &group{thing: thing{id: s.id("sg")}, name: "default", description: "default VPC security group", out: []rule{{protocol: "-1", cidr: "0.0.0.0/0"}}}
	s.groups[g.id] = g
}

// Subnets are the ids of the subnets, in the order of zones.
func (s *Server) Subnets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, z := range s.Zones() {
		for id, x := range s.subnets {
			if x.zone == z {
				out = append(out, id)
			}
		}
	}
	return out
}

// SetRoom says how many addresses a subnet has.
func (s *Server) SetRoom(subnet string, addresses int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subnets[subnet].room = addresses
}

// SetKMS adds a key of the Key Management Service, enabled or not.
func (s *Server) SetKMS(arn string, enabled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kmsKeys[arn] = enabled
}

// Egress lists where a security group lets instances reach, for tests.
func (s *Server) Egress(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	if g := s.groups[id]; g != nil {
		for _, r := range g.out {
			out = append(out, r.cidr+r.group)
		}
	}
	return out
}

// address takes an address of a subnet: a given one, or the first that is free. The first four and the last are AWS's own (VPC user guide, "Subnet CIDR blocks").
func (x *subnet) address(wish, by string) (netip.Addr, error) {
	if len(x.used) >= x.room {
		return netip.Addr{}, fail("InsufficientFreeAddressesInSubnet", fmt.Sprintf("There are not enough free addresses in subnet '%s' to satisfy the requested number of instances.", x.id))
	}
	if wish != "" {
		a, err := netip.ParseAddr(wish)
		switch {
		case err != nil || !x.cidr.Contains(a):
			return a, fail("InvalidParameterValue", fmt.Sprintf("Value (%s) for parameter privateIpAddress is invalid. Address does not fall within the subnet's address range", wish))
		case x.used[a] != "":
			return a, fail("InvalidIPAddress.InUse", "Address "+wish+" is in use.")
		}
		x.used[a] = by
		return a, nil
	}
	a := x.cidr.Addr().Next().Next().Next().Next()
	for x.used[a] != "" {
		a = a.Next()
	}
	x.used[a] = by
	return a, nil
}

func (x *subnet) release(by string) {
	for a, who := range x.used {
		if who == by {
			delete(x.used, a)
		}
	}
}

func (x *subnet) nodes() []node {
	return []node{el("subnetId", x.id), el("state", "available"), el("vpcId", VPC), el("cidrBlock", x.cidr), el("availableIpAddressCount", x.room-len(x.used)),
		el("availabilityZone", x.zone), el("defaultForAz", true), el("mapPublicIpOnLaunch", true), el("ownerId", Account), x.tagSet()}
}

// describeSubnets: EC2/DescribeSubnets.
func (s *Server) describeSubnets(c *call) ([]node, error) {
	list, err := described(s, c.in, c.in.list("SubnetId"), s.subnets, func(x *subnet) *thing { return &x.thing }, func(x *subnet, name string) ([]string, bool) {
		switch name {
		case "subnet-id":
			return []string{x.id}, true
		case "vpc-id":
			return []string{VPC}, true
		case "availability-zone":
			return []string{x.zone}, true
		case "state":
			return []string{"available"}, true
		}
		return nil, false
	}, noSubnet)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c.in, list, 5, 1000)
	return append(next, set("subnetSet", list, (*subnet).nodes)), err
}

func noSubnet(id string) error {
	return fail("InvalidSubnetID.NotFound", fmt.Sprintf("The subnet ID '%s' does not exist", id))
}

func noGroup(id string) error {
	return fail("InvalidGroup.NotFound", fmt.Sprintf("The security group '%s' does not exist", id))
}

func permissions(name string, list []rule) node {
	return set(name, list, func(r rule) []node {
		n := some(el("ipProtocol", r.protocol), el("fromPort", r.from), el("toPort", r.to))
		if r.cidr != "" && !strings.Contains(r.cidr, ":") {
			n = append(n, el("ipRanges", el("item", el("cidrIp", r.cidr))))
		}
		if strings.Contains(r.cidr, ":") {
			n = append(n, el("ipv6Ranges", el("item", el("cidrIpv6", r.cidr))))
		}
		if r.group != "" {
			n = append(n, el("groups", el("item", el("groupId", r.group), el("userId", Account))))
		}
		return n
	})
}

// describeGroups: EC2/DescribeSecurityGroups.
func (s *Server) describeGroups(c *call) ([]node, error) {
	list, err := described(s, c.in, c.in.list("GroupId"), s.groups, func(g *group) *thing { return &g.thing }, func(g *group, name string) ([]string, bool) {
		switch name {
		case "group-id":
			return []string{g.id}, true
		case "group-name":
			return []string{g.name}, true
		case "vpc-id":
			return []string{VPC}, true
		}
		return nil, false
	}, noGroup)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c.in, list, 5, 1000)
	return append(next, set("securityGroupInfo", list, func(g *group) []node {
		return []node{el("ownerId", Account), el("groupId", g.id), el("groupName", g.name), el("groupDescription", g.description), el("vpcId", VPC),
			permissions("ipPermissions", g.in), permissions("ipPermissionsEgress", g.out), g.tagSet()}
	})), err
}

// createGroup: EC2/CreateSecurityGroup. A new group lets everything out.
func (s *Server) createGroup(c *call) ([]node, error) {
	if err := c.in.need("GroupName", "GroupDescription", "VpcId"); err != nil {
		return nil, err
	}
	name := c.in["GroupName"]
	if strings.HasPrefix(name, "sg-") || len(name) > 255 {
		return nil, fail("InvalidParameterValue", "group names have up to 255 characters and do not begin with sg-")
	}
	if c.in["VpcId"] != VPC {
		return nil, fail("InvalidVpcID.NotFound", fmt.Sprintf("The vpc ID '%s' does not exist", c.in["VpcId"]))
	}
	for _, g := range s.groups {
		if g.name == name {
			return nil, fail("InvalidGroup.Duplicate", fmt.Sprintf("The security group '%s' already exists for VPC '%s'", name, VPC))
		}
	}
	tags, err := tagged(c.in, "security-group")
	if err != nil {
		return nil, err
	}
	g := &group{thing: thing{id: s.id("sg"), tags: tags["security-group"], created: s.now()}, name: name, description: c.in["GroupDescription"], out: []rule{{protocol: "-1", cidr: "0.0.0.0/0"}}}
	s.groups[g.id] = g
	return []node{el("return", true), el("groupId", g.id)}, nil
}

const ruleParams = "GroupId IpPermissions.#.IpProtocol IpPermissions.#.FromPort IpPermissions.#.ToPort IpPermissions.#.IpRanges.#.CidrIp IpPermissions.#.IpRanges.#.Description " +
	"IpPermissions.#.Ipv6Ranges.#.CidrIpv6 IpPermissions.#.Groups.#.GroupId IpPermissions.#.Groups.#.UserId TagSpecification.#.ResourceType TagSpecification.#.Tag.#.Key TagSpecification.#.Tag.#.Value"

func rules(in params) []rule {
	var out []rule
	for _, p := range in.structs("IpPermissions") {
		base := rule{protocol: p["IpProtocol"], from: p["FromPort"], to: p["ToPort"]}
		for _, r := range p.structs("IpRanges") {
			x := base
			x.cidr = r["CidrIp"]
			out = append(out, x)
		}
		for _, r := range p.structs("Ipv6Ranges") {
			x := base
			x.cidr = r["CidrIpv6"]
			out = append(out, x)
		}
		for _, r := range p.structs("Groups") {
			x := base
			x.group = r["GroupId"]
			out = append(out, x)
		}
	}
	return out
}

// changeGroup: EC2/AuthorizeSecurityGroupIngress, …Egress, and EC2/RevokeSecurityGroupIngress, …Egress.
func (s *Server) changeGroup(c *call) ([]node, error) {
	g := s.groups[c.in["GroupId"]]
	if g == nil || !s.visible(g.created) {
		return nil, noGroup(c.in["GroupId"])
	}
	list := &g.in
	if strings.HasSuffix(c.action, "Egress") {
		list = &g.out
	}
	asked := rules(c.in)
	if len(asked) == 0 {
		return nil, fail("MissingParameter", "The request must contain the parameter ipPermissions")
	}
	for _, r := range asked {
		at := slices.Index(*list, r)
		switch {
		case strings.HasPrefix(c.action, "Authorize") && at >= 0:
			return nil, fail("InvalidPermission.Duplicate", "the specified rule already exists")
		case strings.HasPrefix(c.action, "Revoke") && at < 0:
			return nil, fail("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
		}
	}
	for _, r := range asked {
		if strings.HasPrefix(c.action, "Authorize") {
			*list = append(*list, r)
		} else {
			*list = slices.DeleteFunc(*list, func(x rule) bool { return x == r })
		}
	}
	return []node{el("return", true)}, nil
}

// deleteGroup: EC2/DeleteSecurityGroup.
func (s *Server) deleteGroup(c *call) ([]node, error) {
	g := s.groups[c.in["GroupId"]]
	if g == nil || !s.visible(g.created) {
		return nil, noGroup(c.in["GroupId"])
	}
	for _, i := range s.instances {
		for _, n := range i.nics {
			if i.state != "terminated" && slices.Contains(n.groups, g.id) {
				return nil, fail("DependencyViolation", "resource "+g.id+" has a dependent object")
			}
		}
	}
	delete(s.groups, g.id)
	return []node{el("return", true), el("groupId", g.id)}, nil
}

// describeVPCs: EC2/DescribeVpcs.
func (s *Server) describeVPCs(*call) ([]node, error) {
	return []node{el("vpcSet", el("item", el("vpcId", VPC), el("state", "available"), el("cidrBlock", "172.31.0.0/16"), el("isDefault", strconv.FormatBool(true)), el("ownerId", Account)))}, nil
}
