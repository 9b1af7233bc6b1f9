#!/bin/bash
# lean.sh ROOT GUEST-FILES: fits a fresh Debian root folder for the lab: its agent, its network,
# and a boot without what only costs time under software emulation (35 s as delivered, 12 s so).
set -euo pipefail
root=$1 files=$2

install -D -m644 -t "$root/usr/local/lib/lab" "$files/agent.py" "$files/network.sh"
install -D -m644 -t "$root/etc/systemd/system" "$files"/*.service
# Persistent reservations are kept here; saved configurations there.
for folder in etc/target var/target etc/rtslib-fb-target; do
  mkdir -p "$root/$folder"/{pr,alua}
done
mkdir -p "$root/etc/rtslib-fb-target/backup"

# Roles switch these on: see provision-*.sh.
for unit in rtslib-fb-targetctl.service tcmu-runner.service open-iscsi.service iscsid.socket \
  iscsid.service nftables.service e2scrub_reap.service iperf3.service ssh.service; do
  chroot "$root" systemctl disable "$unit" >/dev/null 2>&1 || true
done
chroot "$root" systemctl enable lab-agent.service lab-network.service >/dev/null 2>&1

masked=(systemd-random-seed.service systemd-binfmt.service systemd-journal-flush.service
  systemd-update-utmp.service systemd-update-utmp-runlevel.service sys-kernel-debug.mount
  sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount
  systemd-hwdb-update.service ldconfig.service systemd-journal-catalog-update.service
  systemd-update-done.service systemd-machine-id-commit.service systemd-firstboot.service
  systemd-boot-random-seed.service systemd-tpm2-setup-early.service systemd-tpm2-setup.service
  systemd-pcrphase.service systemd-pcrmachine.service systemd-rfkill.socket
  systemd-timesyncd.service systemd-pstore.service getty@tty1.service getty-static.service
  serial-getty@ttyS0.service proc-sys-fs-binfmt_misc.automount systemd-remount-fs.service
  systemd-fsck-root.service systemd-tmpfiles-clean.timer apt-daily.timer apt-daily-upgrade.timer
  dpkg-db-backup.timer e2scrub_all.timer fstrim.timer user@.service systemd-logind.service
  systemd-sysusers.service systemd-udev-load-credentials.service kmod-static-nodes.service
  systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service run-lock.mount
  blk-availability.service systemd-sysctl.service systemd-hostnamed.socket systemd-user-sessions.service
  lvm2-monitor.service systemd-networkd.socket)
for unit in "${masked[@]}"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done

# Coldplug only what a lab machine has: all devices would cost 5 s.
override=$root/etc/systemd/system/systemd-udev-trigger.service.d
mkdir -p "$override"
cat >"$override/lab.conf" <<'EOF'
[Service]
ExecStart=
ExecStart=udevadm trigger --action=add --subsystem-match=block --subsystem-match=pci \
  --subsystem-match=virtio --subsystem-match=virtio-ports --subsystem-match=net --subsystem-match=misc
EOF

mkdir -p "$root/etc/systemd/system-generators"
for generator in "$root"/usr/lib/systemd/system-generators/*; do
  name=$(basename "$generator")
  [ "$name" = systemd-fstab-generator ] || ln -sf /dev/null "$root/etc/systemd/system-generators/$name"
done

printf 'blacklist %s\n' bochs psmouse pcspkr i2c_piix4 evdev drm efi_pstore powernow_k8 kvm_amd \
  kvm_intel sr_mod cdrom ata_piix floppy virtio_balloon >"$root/etc/modprobe.d/lab.conf"
install -d "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/lab.conf"
: >"$root/etc/fstab"
echo lab >"$root/etc/hostname"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
rm -f "$root/etc/resolv.conf"
echo 5a1c0ffee0000000000000000000da7a >"$root/etc/machine-id"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/*
