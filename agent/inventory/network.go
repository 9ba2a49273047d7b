package inventory

import (
	"encoding/hex"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/openmigrate/openmigrate/wire"
)

func (c *collector) interfaces() {
	addresses := map[string][]string{}
	fn := c.Addresses
	if fn == nil && c.Root == "" {
		fn = kernelAddresses
	}
	if fn != nil {
		var err error
		addresses, err = fn()
		c.note("interfaces", err)
	}
	var list []wire.Interface
	root := c.path("/sys/class/net")
	for _, name := range names(root) {
		dir := filepath.Join(root, name)
		if info, err := os.Stat(dir); name == "lo" || err != nil || !info.IsDir() { // there are files too, such as bonding_masters
			continue
		}
		_, err := os.Stat(filepath.Join(dir, "device"))
		i := wire.Interface{
			Name: name, MTU: int(number(dir, "mtu")), Up: attr(dir, "operstate") == "up", Virtual: err != nil,
			Addresses: cut(c, "interfaces", addresses[name], wire.MaxAddresses),
		}
		if mac := attr(dir, "address"); strings.Trim(mac, "0:") != "" {
			i.MAC = mac
		}
		if driver, err := os.Readlink(filepath.Join(dir, "device/driver")); err == nil {
			i.Driver = clip(filepath.Base(driver))
		}
		list = append(list, i)
	}
	c.inv.Interfaces = cut(c, "interfaces", list, wire.MaxInterfaces)
}

func kernelAddresses() (map[string][]string, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for _, i := range ifs {
		addrs, err := i.Addrs()
		if err != nil {
			return all, err
		}
		for _, a := range addrs {
			all[i.Name] = append(all[i.Name], a.String())
		}
	}
	return all, nil
}

func (c *collector) routes() {
	list := c.routes4()
	list = append(list, c.routes6()...)
	c.inv.Routes = cut(c, "routes", list, wire.MaxRoutes)
}

const (
	routeUp    = 0x1
	routeLocal = 0x80000000 // IPv6: an address of this host
)

// routes4 reads /proc/net/route: a heading, then interface, destination, gateway, flags, two counters, metric, mask. Addresses
// are hexadecimal numbers in the host's order of bytes, which is little-endian on all that we run on.
func (c *collector) routes4() []wire.Route {
	var list []wire.Route
	for line := range strings.Lines(c.read("routes", "/proc/net/route")) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		dst, ok1 := addr4(f[1])
		gw, ok2 := addr4(f[2])
		mask, err1 := strconv.ParseUint(f[7], 16, 32)
		flags, err2 := strconv.ParseUint(f[3], 16, 32)
		if !ok1 || !ok2 || err1 != nil || err2 != nil || flags&routeUp == 0 {
			continue
		}
		metric, _ := strconv.ParseInt(f[6], 10, 64)
		list = append(list, route(netip.PrefixFrom(dst, bits.OnesCount64(mask)), gw, f[0], metric))
	}
	return list
}

func addr4(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 {
		return netip.Addr{}, false
	}
	slices.Reverse(b)
	return netip.AddrFromSlice(b)
}

// routes6 reads /proc/net/ipv6_route: destination, its prefix, source, its prefix, next hop, metric, two counters, flags,
// interface; all in hexadecimal. Multicast, link-local and the host's own addresses are left out.
func (c *collector) routes6() []wire.Route {
	var list []wire.Route
	for line := range strings.Lines(c.read("routes", "/proc/net/ipv6_route")) {
		f := strings.Fields(line)
		if len(f) < 10 || f[9] == "lo" {
			continue
		}
		dst, ok1 := addr6(f[0])
		gw, ok2 := addr6(f[4])
		length, err1 := strconv.ParseUint(f[1], 16, 8)
		metric, err2 := strconv.ParseUint(f[5], 16, 32)
		flags, err3 := strconv.ParseUint(f[8], 16, 32)
		if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil || length > 128 ||
			flags&routeUp == 0 || flags&routeLocal != 0 || dst.IsMulticast() || dst.IsLinkLocalUnicast() {
			continue
		}
		list = append(list, route(netip.PrefixFrom(dst, int(length)), gw, f[9], int64(metric)))
	}
	return list
}

func addr6(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(b)
}

func route(dst netip.Prefix, gw netip.Addr, dev string, metric int64) wire.Route {
	r := wire.Route{Destination: fmt.Sprint(dst), Interface: clip(dev), Metric: metric}
	if !gw.IsUnspecified() {
		r.Gateway = gw.String()
	}
	return r
}
