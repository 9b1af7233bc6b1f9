#!/bin/bash
# build-box.sh ROOT GUEST-FILES KEY SCRATCH OUT SIZE: a Vagrant box's disk and boot files out of a
# root folder, which is not changed. To be run in a mount namespace of its own.
set -euo pipefail
root=$1 files=$2 key=$3 scratch=$4 out=$5 size=$6
here=$(dirname "$0")
mkdir "$scratch"/{upper,work,merged}
merged=$scratch/merged
mount -t overlay overlay \
  -o "lowerdir=$root,upperdir=$scratch/upper,workdir=$scratch/work" "$merged" 2>/dev/null ||
  cp -a "$root/." "$merged"
in_root() {
  env -i DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin HOME=/root chroot "$merged" "$@"
}

cp /etc/resolv.conf "$merged/etc/resolv.conf"
mount -t proc proc "$merged/proc"
in_root apt-get update -q
grep -v '^#' "$here/packages.txt" | xargs env -i DEBIAN_FRONTEND=noninteractive \
  PATH=/usr/sbin:/usr/bin chroot "$merged" apt-get install -q -y --no-install-recommends
umount "$merged/proc"

# The lab's lean boot; its agent and its network have no part here.
bash "$files/lean.sh" "$merged" "$files"
in_root systemctl disable --quiet lab-agent.service lab-network.service
rm "$merged/etc/systemd/system/systemd-networkd.socket"
cat >"$merged/etc/systemd/network/90-eth0.network" <<'END'
[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
ClientIdentifier=mac
END
in_root systemctl enable --quiet systemd-networkd.service ssh.service
in_root systemctl mask --quiet systemd-networkd-wait-online.service
printf 'UseDNS no\nGSSAPIAuthentication no\nPermitRootLogin prohibit-password\n' \
  >"$merged/etc/ssh/sshd_config.d/lab.conf"
install -d -m700 "$merged/root/.ssh"
install -m600 "$key" "$merged/root/.ssh/authorized_keys"

bash "$files/make-boot-files.sh" "$merged" "$files/init" "$out"
truncate -s "$size" "$scratch/root.ext4"
mke2fs -q -t ext4 -J size=16 -L root -E lazy_itable_init=0,lazy_journal_init=0,nodiscard \
  -d "$merged" "$scratch/root.ext4"
qemu-img convert -f raw -O qcow2 "$scratch/root.ext4" "$out/box.img"
umount -l "$merged" 2>/dev/null || true
