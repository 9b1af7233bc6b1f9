#!/bin/bash
# The primary machine: tcmu-runner with whatever handlers are installed, LIO, and an initiator to
# try its own LUNs with.
set -euo pipefail

printf '%s\n' configfs target_core_mod target_core_user target_core_file target_core_iblock \
  iscsi_target_mod tcm_loop dm_mod loop >/etc/modules-load.d/lab.conf
systemctl restart systemd-modules-load.service
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config

echo "InitiatorName=iqn.2026-11.org.example:primary" >/etc/iscsi/initiatorname.iscsi
systemctl enable --quiet --now iscsid.socket
systemctl enable --quiet rtslib-fb-targetctl.service
systemctl enable --quiet --now tcmu-runner.service
