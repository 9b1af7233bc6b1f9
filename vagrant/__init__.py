"""The virtual lab: real Debian 13 machines on plain QEMU, for tests and for people.

`image` builds what the machines boot from, `lab` and `machine` run them. The same provision
scripts serve the Vagrantfile. Nothing here is part of the installed product.
"""
