#!/bin/bash
# build-layer.sh ROOT SOURCE SCRATCH OUT SIZE: boot files out of a root folder and the project.
# To be run in a mount and process namespace of its own; ROOT is not changed.
set -euo pipefail
root=$1 source=$2 scratch=$3 out=$4 size=$5
files=$(dirname "$0") image=$out/root.ext4

seconds() { echo "$(date +%s.%N) $start" | awk '{printf "%.1f s  ", $1 - $2}'; echo "$1"; start=$(date +%s.%N); }
start=$(date +%s.%N)
in_root() { env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 chroot "$merged" "$@"; }

mkdir "$scratch"/{upper,work,merged}
merged=$scratch/merged
if ! mount -t overlay overlay \
  -o "lowerdir=$root,upperdir=$scratch/upper,workdir=$scratch/work" "$merged" 2>/dev/null; then
  cp -a "$root/." "$merged"
fi
seconds "layer the root folder"

bash "$files/lean.sh" "$merged" "$files"
bash "$files/make-boot-files.sh" "$merged" "$files/init" "$out"
seconds "trim the boot, unpack the kernel"

if [ -e "$source/pyproject.toml" ]; then
  mount -t proc proc "$merged/proc"
  mount --rbind /dev "$merged/dev"
  cp -a "$source" "$merged/var/tmp/project"
  in_root python3 -m pip install --no-deps --no-index --no-build-isolation \
    --break-system-packages --root-user-action=ignore --no-warn-script-location /var/tmp/project
  seconds "install the package"
  if [ -d "$source/tcmu_restore/handler" ]; then
    in_root tcmu-restore install-handler
    seconds "build the handler"
  fi
  rm -rf "$merged/var/tmp/project"
  umount -l "$merged/dev" "$merged/proc"
fi

truncate -s "$size" "$image"
mke2fs -q -t ext4 -J size=16 -L root -E lazy_itable_init=0,lazy_journal_init=0,nodiscard \
  -d "$merged" "$image"
seconds "make the file system"
umount -l "$merged" 2>/dev/null || true
