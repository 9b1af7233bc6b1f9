#!/bin/bash
# The backup machine: a thin pool on its data disk, and LIO to serve thin volumes and snapshots of
# them (lab-thin, lab-export).
set -euo pipefail
disk=${LAB_DATA_DISK:-/dev/disk/by-id/virtio-data}

printf '%s\n' configfs target_core_mod target_core_iblock target_core_file iscsi_target_mod \
  dm_thin_pool loop >/etc/modules-load.d/lab.conf
systemctl restart systemd-modules-load.service
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config

# Volumes are activated on an event, of which the restoring of the exports knows nothing: it would
# skip every device that is not there yet.
drop_in=/etc/systemd/system/rtslib-fb-targetctl.service.d
mkdir -p "$drop_in"
cat >"$drop_in/lab.conf" <<'EOF'
[Service]
ExecStartPre=-/usr/sbin/vgchange --activate ay backup
ExecStartPre=/usr/bin/udevadm settle
EOF
# Without it the thin pool stays monitored, and the machine takes 90 s longer to shut down.
systemctl unmask --quiet lvm2-monitor.service
systemctl daemon-reload
systemctl enable --quiet --now lvm2-monitor.service
systemctl enable --quiet rtslib-fb-targetctl.service

if ! vgs backup >/dev/null 2>&1; then
  pvcreate --quiet --yes "$disk"
  vgcreate --quiet backup "$disk"
  lvcreate --quiet --yes --type thin-pool --name pool --extents 95%FREE --zero y \
    --chunksize 64k backup
fi
