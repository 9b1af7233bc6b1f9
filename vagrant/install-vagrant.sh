#!/bin/bash
# Installs what `vagrant up` needs on its Debian host: Vagrant, libvirt and QEMU; does nothing when
# it is all there. libvirt's daemon alone: the test runs it itself, with settings of its own.
set -euo pipefail
here=$(dirname "$0")

"$here/install-host.sh"
"$here/install-packages.sh" vagrant vagrant-libvirt libvirt-daemon libvirt-daemon-driver-qemu \
  libvirt-clients dnsmasq-base iptables openssh-client rsync
