#!/bin/bash
# Every machine of the lab. Run again it changes nothing.
set -euo pipefail

# The QEMU lab's image has these; a Vagrant box gets them here.
list=/vagrant/packages.txt
if [ -e "$list" ] && ! command -v tcmu-runner >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update
  grep -v '^#' "$list" | xargs apt-get install -y --no-install-recommends
  install -m755 -t /usr/local/sbin /vagrant/bin/*
fi

# The kernel keeps persistent reservations here, targetcli its saved configuration there.
mkdir -p {/etc/target,/var/target,/etc/rtslib-fb-target}/{pr,alua} /etc/rtslib-fb-target/backup
