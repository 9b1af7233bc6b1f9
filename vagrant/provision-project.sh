#!/bin/bash
# Builds and installs the tree that is synced to /tcmu-restore. The QEMU lab's image has it already.
set -euo pipefail

grep -v '^#' /vagrant/wheels.txt | xargs python3 -m pip install --no-deps --break-system-packages
python3 -m pip install --no-deps --no-build-isolation --break-system-packages /tcmu-restore
tcmu-restore install-handler
systemctl restart tcmu-runner.service
