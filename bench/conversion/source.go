package main

import (
	"context"

	"github.com/openmigrate/openmigrate/e2e/vm"
)

// sourcePackages are what the server has beyond a plain Debian: its network, and the programs that make a boot menu, which virt-v2v runs.
var sourcePackages = []string{"ifupdown", "isc-dhcp-client", "grub2-common"}

// tune is for a server of an old hypervisor: its initramfs has the driver of its own disk controller only, its root goes by a name that it has nowhere else, and its card is
// known by its MAC address. Its boot menu, when it is made again, still has a serial console, so that both results can be seen; and who asks for a login names the machine's address.
const tune = vm.Tune + `
cat >/etc/default/grub <<'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="no_timer_check console=tty0 console=ttyS0,115200"
END
rm -f /etc/systemd/network/80-dhcp.network /etc/systemd/system/multi-user.target.wants/systemd-networkd.service
printf 'auto lo\niface lo inet loopback\n\nallow-hotplug eth0\niface eth0 inet dhcp\n' >/etc/network/interfaces
echo 'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="52:54:00:aa:bb:cc", ATTR{type}=="1", NAME="eth0"' >/etc/udev/rules.d/70-persistent-net.rules
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -sf /lib/systemd/system/networking.service /etc/systemd/system/multi-user.target.wants/networking.service
printf '%s\n' 'Debian GNU/Linux 12 address=\4 \l' >/etc/issue
`

// source returns the disk, which is made once.
func (b *bench) source(ctx context.Context) (string, error) {
	plain, err := vm.Make(ctx, vm.Recipe{}, b.Say)
	if err != nil {
		return "", err
	}
	image, err := vm.MakeModified(ctx, plain, sourcePackages, tune, b.Say)
	return image.Path, err
}
