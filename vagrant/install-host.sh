#!/bin/bash
# Installs what the virtual lab needs on its Debian host; does nothing when it is all there.
set -euo pipefail

declare -A package_of=(
  [qemu-system-x86_64]=qemu-system-x86
  [qemu-img]=qemu-utils
  [mmdebstrap]=mmdebstrap
  [mke2fs]=e2fsprogs
  [ip]=iproute2
  [nsenter]=util-linux
  [cpio]=cpio
  [zstd]=zstd
  [xz]=xz-utils
  [git]=git
)
PATH=$PATH:/usr/sbin:/sbin

missing=()
for command in "${!package_of[@]}"; do
  command -v "$command" >/dev/null || missing+=("${package_of[$command]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

"$(dirname "$0")/install-packages.sh" "${missing[@]}" debian-archive-keyring
