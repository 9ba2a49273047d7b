# Makes a server of the base machine; $1 is what sets up its network.
up() { timeout 200 sh -c 'until runuser -u postgres -- psql -qAtc "SELECT 1" 2>/dev/null; do sleep 1; done'; }
# A cluster that is stopped while it starts does not start again.
up
# PostgreSQL's data goes onto a logical volume of the second disk.
pvcreate -q /dev/sdb
vgcreate -q data /dev/sdb
lvcreate -q -y -l 80%VG -n postgres data
mkfs.ext4 -q /dev/data/postgres
systemctl stop postgresql
mount /dev/data/postgres /mnt
cp -a /var/lib/postgresql/. /mnt/
umount /mnt
rm -rf /var/lib/postgresql/*
echo '/dev/data/postgres /var/lib/postgresql ext4 defaults 0 2' >>/etc/fstab
systemctl daemon-reload
mount /var/lib/postgresql
chown postgres:postgres /var/lib/postgresql
systemctl start postgresql
up
runuser -u postgres -- createdb story
# No key: a row that came twice is to be seen.
runuser -u postgres -- psql -d story -c 'CREATE TABLE commits (id bigint NOT NULL, boot text NOT NULL, at timestamptz NOT NULL DEFAULT now()); CREATE INDEX ON commits (id)'
chmod 644 /etc/systemd/system/story-server.service
systemctl enable story-server

# The card is known by its name.
rm -f /etc/systemd/network/* /etc/systemd/system/multi-user.target.wants/systemd-networkd.service
card=$(ls /sys/class/net | grep -v '^lo$')
test "$(echo "$card" | wc -w)" = 1
case $1 in
ifupdown)
	printf 'auto lo\niface lo inet loopback\n\nallow-hotplug %s\niface %s inet dhcp\n' "$card" "$card" >/etc/network/interfaces
	systemctl enable networking
	;;
networkd)
	systemctl disable networking
	printf '[Match]\nName=%s\n\n[Network]\nDHCP=yes\n' "$card" >/etc/systemd/network/10-lan.network
	systemctl enable systemd-networkd
	;;
esac

systemctl stop postgresql
fstrim -a
