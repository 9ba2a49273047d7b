package qemu

import (
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/providers"
)

// inheritedFrom is the first descriptor that QEMU gets beside its standard ones and the lock.
const inheritedFrom = 4

// openTaps makes a tap for each card on a bridge. They are QEMU's once it has inherited them and go with it, so nothing of them is ever left. The result says
// which descriptor each card's tap is in QEMU.
func openTaps(nics []providers.InstanceNIC) (taps map[int]int, files []*os.File, err error) {
	taps = map[int]int{}
	for n, nic := range nics {
		name, bridged := strings.CutPrefix(nic.Network, bridgePrefix)
		if !bridged {
			continue
		}
		f, err := openTap(name)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, nil, fmt.Errorf("plug into %s: %w", nic.Network, hostError(err))
		}
		taps[n] = inheritedFrom + len(files)
		files = append(files, f)
	}
	return taps, files, nil
}

// openTap makes a tap and puts it onto a bridge, which needs CAP_NET_ADMIN.
func openTap(bridge string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	f := os.NewFile(uintptr(fd), "tap")
	if err := setUpTap(fd, bridge); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func setUpTap(fd int, bridge string) error {
	tap, err := unix.NewIfreq("omtap%d") // the kernel puts a number in
	if err != nil {
		return err
	}
	tap.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, tap); err != nil {
		return fmt.Errorf("make a tap: %w", err)
	}
	made, err := net.InterfaceByName(tap.Name())
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	b, err := unix.NewIfreq(bridge)
	if err != nil {
		return err
	}
	b.SetUint32(uint32(made.Index))
	if err := unix.IoctlIfreq(s, unix.SIOCBRADDIF, b); err != nil {
		return fmt.Errorf("add %s to bridge %s: %w", tap.Name(), bridge, err)
	}
	tap.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, tap); err != nil {
		return fmt.Errorf("set %s up: %w", tap.Name(), err)
	}
	return nil
}
