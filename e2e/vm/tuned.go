package vm

// Tune is a script for Modify. It makes the plain machine one that was tuned to the disk controller that it has, virtio-scsi: its initramfs has no other driver,
// and its root goes by a name that it has nowhere else.
const Tune = `
root=$(sed -n 's|^\(UUID=[^ ]*\) / .*|\1|p' /etc/fstab)
sed -i "s|$root|/dev/sda3|" /etc/fstab
sed -i "s|root=$root |root=/dev/sda3 |" /boot/grub/grub.cfg
grep -q '^/dev/sda3 / ' /etc/fstab
grep -q 'root=/dev/sda3 ' /boot/grub/grub.cfg
rm -f /etc/initramfs-tools/conf.d/vm
echo MODULES=list >/etc/initramfs-tools/conf.d/tuned
printf '%s\n' virtio_pci virtio_scsi sd_mod ext4 >>/etc/initramfs-tools/modules
update-initramfs -u -k "$(ls /lib/modules)"
`
