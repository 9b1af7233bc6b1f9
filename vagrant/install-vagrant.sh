#!/bin/bash
# Installs what `vagrant up` needs on its Debian host: Vagrant, libvirt and QEMU; does nothing when
# it is all there. libvirt's daemon alone: the test runs it itself, with settings of its own.
set -euo pipefail
"$(dirname "$0")/install-host.sh"

packages=(vagrant vagrant-libvirt libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients
  dnsmasq-base iptables openssh-client rsync)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep 'ok installed' >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Installing Debian packages: ${missing[*]}"
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
