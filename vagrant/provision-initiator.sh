#!/bin/bash
# The initiator machine: what uses the volume that the primary serves.
set -euo pipefail
echo "InitiatorName=iqn.2026-11.org.example:initiator" >/etc/iscsi/initiatorname.iscsi
systemctl enable --quiet --now iscsid.socket open-iscsi.service
