#!/bin/bash
# Every machine of the lab. Run again it changes nothing.
set -euo pipefail

# The QEMU lab has put its commands here already.
if [ -d /vagrant/bin ]; then
  find /vagrant/bin -maxdepth 1 -type f -exec install -m755 -t /usr/local/sbin {} +
fi

# The kernel keeps persistent reservations here, targetcli its saved configuration there.
mkdir -p {/etc/target,/var/target,/etc/rtslib-fb-target}/{pr,alua} /etc/rtslib-fb-target/backup
