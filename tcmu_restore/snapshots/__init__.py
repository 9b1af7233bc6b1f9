"""Snapshots on the backup host: taken, exported read-only, remembered over reboots, taken away.

The *origin* is the LIO storage object (``block/NAME``, ``fileio/NAME``) of which a snapshot is
taken. Everything here blocks, runs as root on the backup host, and needs no service there. It must
not import ``engine``, ``sources`` or ``core``: those are the primary's.

``verbs`` is the way in; ``provider`` is what another kind of storage has to implement.
"""
