"""What a verb that gives something up would do, said exactly, before it is done.

Pure: a status in, sentences out; shared by the command line, which asks, and by targetcli, which
wants ``confirm=true``. The status is that of the moment before; what is not known of a volume that
is not being served is left out rather than guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..service.registry_seam import VolumeStatus
from ..units import format_size
from .condition import is_open
from .status_text import format_extent

NOTHING_OUTDATED: Final = "Nothing is outdated there; nothing was changed."


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes that a person named; without *length* everything from *offset* to the end."""

    offset: int = 0
    length: int | None = None

    def of(self, status: VolumeStatus) -> str:
        """Return the range of a volume in words, as exactly as its status allows."""
        volume, size = status["volume"], status.get("size")
        if self.length is not None:
            last = self.offset + self.length - 1
            return f"{format_size(self.length)} of {volume} (bytes {self.offset} to {last})"
        if self.offset:
            return f"All of {volume} from byte {self.offset} to its end"
        return f"All of {volume}{f' ({format_size(size)})' if size else ''}"

    def in_regions(self, region_size: int) -> ByteRange:
        """Return the whole regions that the range touches: less cannot be lost or accepted."""
        start = self.offset // region_size * region_size
        if self.length is None:
            return ByteRange(start)
        end = -(-(self.offset + self.length) // region_size) * region_size
        return ByteRange(start, end - start)

    def overlap(self, offset: int, length: int) -> ByteRange | None:
        """Return what the extent of *offset* and *length* (bytes) shares with this range."""
        end = offset + length
        if self.length is not None:
            end = min(end, self.offset + self.length)
        start = max(offset, self.offset)
        return ByteRange(start, end - start) if start < end else None


def declare_lost_consequences(status: VolumeStatus, extent: ByteRange, *, force: bool) -> list[str]:
    """Return what DeclareLost would do."""
    if not is_open(status):
        return [f"{extent.of(status)} would count as lost."]
    what = f"{extent.in_regions(status['region_size']).of(status)} would count as lost"
    backup = status["backup"]
    sentences = [
        f"{what}: what {status['primary']['path']} holds there is not used again, and is fetched "
        f"from {backup['url']} anew."
    ]
    if not backup["reachable"]:
        sentences.append(
            "The backup cannot be reached now; until it can, these bytes cannot be read."
        )
    return sentences + _stale_sentences(status["regions"]["stale"], force=force)


def _stale_sentences(stale: int, *, force: bool) -> list[str]:
    if not stale:
        return []
    known = (
        f"{stale} regions of the volume hold acknowledged writes that the backup does not have yet"
    )
    if not force:
        return [f"{known}. If any of them is in this range, the request is refused."]
    return [
        f"{known}. THE NEWEST WRITES TO THOSE IN THIS RANGE ARE GIVEN UP: the regions become "
        "outdated, and cannot be read until the backup's older bytes are accepted or a host "
        "overwrites them."
    ]


def outdated_within(status: VolumeStatus, extent: ByteRange) -> list[ByteRange]:
    """Return the outdated extents that the status lists, cut to the regions of *extent*."""
    regions = extent.in_regions(status["region_size"])
    shared = (regions.overlap(*outdated) for outdated in status.get("outdated_extents", []))
    return [overlap for overlap in shared if overlap is not None]


def has_unlisted_outdated(status: VolumeStatus) -> bool:
    """Return whether more is outdated than the status lists; the last region may be a short one."""
    listed = sum(length for _, length in status.get("outdated_extents", []))
    region_size = status["region_size"]
    return status["regions"].get("outdated", 0) * region_size - listed >= region_size


def accept_outdated_consequences(status: VolumeStatus, extents: list[ByteRange]) -> list[str]:
    """Return what AcceptOutdated would do to *extents*."""
    listed = [f"  {format_extent(item.offset, item.length or 0)}" for item in extents]
    return [
        f"These bytes of {status['volume']} are outdated: what the backup holds there is older "
        "than what was last written and acknowledged.",
        *(listed or ["  (they are not listed: there are too many)"]),
        "To accept them is to GIVE UP THOSE ACKNOWLEDGED WRITES FOR GOOD: the backup's older bytes "
        "count from then on. Check what lies there, such as a file system, afterwards.",
    ]


def rebuild_consequences(volume: str, damage: str) -> list[str]:
    """Return what RebuildState would do; *damage* says what is wrong, if that is known."""
    return [
        *([damage] if damage else []),
        f"The state file of {volume} would be made anew. All of {volume} counts as lost then: "
        "everything is fetched from the backup again, and what the local disk holds is not used.",
        "Acknowledged writes that the backup does not have, because it was away when they came: "
        "those that the old file still tells of become outdated; THE OTHERS ARE GIVEN UP.",
    ]
