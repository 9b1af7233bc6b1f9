"""The demo's scripts for the machines."""

from __future__ import annotations

import shlex

from vagrant.demo.guest import FOLDER

MOUNT = "/mnt/volume"
WORK_FOLDER = f"{FOLDER}/work"
MANIFEST = f"{WORK_FOLDER}/manifest"

# Real files, small and large, under names a person knows; then a list of their digests. ext4's
# `nodiscard` leaves the rest of the thin volume unmapped.
FILL = r"""mkfs.ext4 -q -L data -E nodiscard $dev
mkdir -p /mnt/new; mount $dev /mnt/new; cd /mnt/new
mkdir etc python records
cp -r /etc/. etc/
for name in $(cd /usr/lib/python3.*/; ls -d asyncio email json http xml importlib logging re); do
  cp -r /usr/lib/python3.*/$name python/
done
for number in $(seq 44); do head -c 1M /dev/urandom >records/record-$number; done
find . -xtype l -delete; find . -name '*\\*' -delete
find . -name __pycache__ -prune -exec rm -r {} +
find . -type f ! -path './lost+found/*' -print0 | sort -z | xargs -0 sha256sum >/run/list
mv /run/list SHA256; wc -l <SHA256; df -m --output=used . | tail -1; cd /; umount /mnt/new"""


def mount(device: str) -> str:
    """Mount the volume and make the workload's folder."""
    return f"mkdir -p {MOUNT} {WORK_FOLDER}; mount {shlex.quote(device)} {MOUNT}"


def random_load(seconds: int) -> str:
    """Read and write small blocks of one file at random, gently, for so many seconds."""
    return (
        f"fio --name=random --filename={MOUNT}/database --size=12M --bs=4k --rw=randrw "
        f"--rwmixread=60 --direct=1 --ioengine=psync --fsync=16 --rate_iops=12,8 "
        f"--time_based --runtime={seconds} --output={WORK_FOLDER}/fio --output-format=json"
    )


def workload() -> str:
    """Verify, write, overwrite and delete files until told to stop."""
    return f"exec lab-workload {MOUNT} {MANIFEST}"


def stop_workload() -> str:
    """Tell the workload to end when it has verified everything once."""
    return f": >{WORK_FOLDER}/stop"


def read_workload_counts() -> str:
    """Print the workload's counts so far."""
    return f"cat {WORK_FOLDER}/counts 2>/dev/null || echo '{{}}'"


def check_file_system(device: str) -> str:
    """Unmount and check; print fsck's status, then what it said."""
    check = f"fsck.ext4 -fn {shlex.quote(device)}"
    return f'sync; umount {MOUNT}; said=$({check} 2>&1) && s=0 || s=$?; echo $s; echo "$said"'


def verify_files(device: str) -> str:
    """Mount without changing a byte, verify every file and print how many there were."""
    return (
        f"mount -o ro,noload {shlex.quote(device)} {MOUNT}; cd {MOUNT}; "
        f"sha256sum --check --quiet --strict {MANIFEST}; cd /; umount {MOUNT}; wc -l <{MANIFEST}"
    )


def forget_disk(device: str) -> str:
    """Take a disk that is gone out of the initiator's kernel."""
    return f"echo 1 >/sys/block/$(basename $(readlink -f {shlex.quote(device)}))/device/delete"
