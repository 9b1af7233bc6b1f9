#!/bin/bash
# private-libvirt.sh FOLDER: libvirt's daemons with settings, state and networks of their own.
# To be run as the first process of mount, network and process namespaces of its own: whatever it
# starts, machines and name servers included, ends with it, and the host's libvirt is not seen.
set -euo pipefail
folder=$1
PATH=$PATH:/usr/sbin:/sbin

mkdir -p "$folder"/{etc,lib,log,cache,pool}
for part in etc lib log cache; do
  case $part in etc) place=/etc/libvirt ;; *) place=/var/$part/libvirt ;; esac
  mkdir -p "$place"
  mount --bind "$folder/$part" "$place"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/libvirt /run/lock

# The user that Debian's libvirt would run QEMU as; its package makes it only together with the
# host's own daemons.
for part in passwd group; do
  cp "/etc/$part" "$folder/$part"
  mount --bind "$folder/$part" "/etc/$part"
done
getent group libvirt-qemu >/dev/null || echo 'libvirt-qemu:x:64055:' >>/etc/group
getent group kvm >/dev/null || echo 'kvm:x:64056:' >>/etc/group
getent passwd libvirt-qemu >/dev/null ||
  echo 'libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin' >>/etc/passwd

# One setting a line. A namespace has no /sys/fs/cgroup and no second user.
cat >/etc/libvirt/qemu.conf <<'END'
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
seccomp_sandbox = 0
END
cat >/etc/libvirt/libvirtd.conf <<'END'
unix_sock_group = "root"
auth_unix_ro = "none"
auth_unix_rw = "none"
END

ip link set lo up
virtlogd >"$folder/virtlogd.log" 2>&1 &
libvirtd >"$folder/libvirtd.log" 2>&1 &
until virsh --quiet --connect qemu:///system version >/dev/null 2>&1; do
  kill -0 $! || { cat "$folder/libvirtd.log"; exit 1; }
  sleep 0.2
done
virsh --quiet pool-define-as default dir --target "$folder/pool"
virsh --quiet pool-start default
touch "$folder/ready"
while :; do
  wait -n || true # also for what namespace members leave behind
  sleep 0.5
done
