#!/bin/bash
# The backup machine: a thin pool on its data disk, and LIO to serve thin volumes and snapshots of
# them (lab-thin, lab-export).
set -euo pipefail
disk=${LAB_DATA_DISK:-/dev/disk/by-id/virtio-data}

printf '%s\n' configfs target_core_mod target_core_iblock target_core_file iscsi_target_mod \
  dm_thin_pool >/etc/modules-load.d/lab.conf
systemctl restart systemd-modules-load.service
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
systemctl enable --quiet rtslib-fb-targetctl.service

if ! vgs backup >/dev/null 2>&1; then
  pvcreate --quiet --yes "$disk"
  vgcreate --quiet backup "$disk"
  lvcreate --quiet --yes --type thin-pool --name pool --extents 95%FREE --zero y \
    --chunksize 64k backup
fi
