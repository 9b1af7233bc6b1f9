"""What a reader may see, unit by unit (512 bytes): the product's promise, written down."""

from __future__ import annotations

from dataclasses import dataclass, field

from .stores import UNIT


@dataclass(eq=False)
class Entry:
    """One content of one unit, and when the write of it began and completed."""

    value: bytes
    began: int
    ended: int | None


@dataclass(eq=False)
class Reading:
    """A read under way: the contents it may return, by unit."""

    first: int
    allowed: list[set[bytes]] = field(default_factory=list)


class Oracle:
    """Histories of all units. A unit may hold any entry that no completed later one replaced."""

    def __init__(self, content: bytes) -> None:
        self.clock = 0
        self.size = len(content)
        """Bytes that hosts were told of."""
        self.units: list[list[Entry]] = []
        self.backup_grew(content)
        self.readings: list[Reading] = []
        self.accepted_at: dict[int, int] = {}
        """When, by unit, if it is not known to be durable."""

    def backup_grew(self, content: bytes) -> None:
        """The backup holds *content* behind what it held: that is right until hosts write there."""
        for at in range(0, len(content), UNIT):
            self.units.append([Entry(content[at : at + UNIT], 0, 0)])

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def begin_write(self, offset: int, data: bytes) -> list[tuple[int, Entry]]:
        began = self.tick()
        entries = []
        for at in range(0, len(data), UNIT):
            unit = (offset + at) // UNIT
            entry = Entry(data[at : at + UNIT], began, None)
            self.units[unit].append(entry)
            entries.append((unit, entry))
            self._widen_readings(unit, {entry.value})
        return entries

    def end_write(self, entries: list[tuple[int, Entry]], *, durable: bool) -> None:
        ended = self.tick()
        for unit, entry in entries:
            entry.ended = ended
            if durable:
                self._forget_before(unit, entry.began)

    def withdraw(self, entries: list[tuple[int, Entry]]) -> None:
        """The write was refused: it must not have happened."""
        for unit, entry in entries:
            if entry in self.units[unit]:
                self.units[unit].remove(entry)

    def visible(self, unit: int) -> set[bytes]:
        """What a read that begins now may return."""
        completed = [e for e in self.units[unit] if e.ended is not None]
        newest = max(e.began for e in completed)
        return {e.value for e in self.units[unit] if e.ended is None or e.ended > newest} | {
            e.value for e in completed if e.began == newest
        }

    def begin_read(self, offset: int, length: int) -> Reading:
        first = offset // UNIT
        reading = Reading(first, [self.visible(u) for u in range(first, first + length // UNIT)])
        self.readings.append(reading)
        return reading

    def end_read(self, reading: Reading, data: bytes | None) -> None:
        if reading not in self.readings:
            return  # a crash came in between
        self.readings.remove(reading)
        if data is None:
            return
        for index, allowed in enumerate(reading.allowed):
            found = data[index * UNIT : (index + 1) * UNIT]
            assert found in allowed, f"unit {reading.first + index}: a read returned wrong bytes"

    def flushed(self, began: int) -> None:
        """A flush that began at *began* completed: what completed before it is durable."""
        for unit, entries in enumerate(self.units):
            done = [e.began for e in entries if e.ended is not None and e.ended <= began]
            if done:
                self._forget_before(unit, max(done))

    def _forget_before(self, unit: int, began: int) -> None:
        """Drop what completed before the write that began at *began* did begin."""
        self.units[unit] = [
            e for e in self.units[unit] if e.ended is None or e.ended > began or e.began >= began
        ]

    def accepted(self, unit: int, values: set[bytes]) -> None:
        """The admin accepts *values*, old as they are; the newest stays right as well.

        Until that is durable (``acceptance_kept``) a crash may undo it.
        """
        allowed = values | self.visible(unit)
        self.accepted_at[unit] = at = self.tick()
        self.units[unit] += [Entry(value, at, at) for value in sorted(allowed)]
        self._widen_readings(unit, allowed)

    def acceptance_kept(self, units: range) -> None:
        """What was accepted of *units* is durable."""
        for unit in self.accepted_at.keys() & set(units):
            self._forget_before(unit, self.accepted_at.pop(unit))

    def crashed(self, content: list[bytes | None], unsettled: set[int]) -> None:
        """After a crash each unit holds one of its entries; from now on that one.

        None: nobody can read the unit; whatever it may hold, it may hold later. *unsettled* units
        are served by the backup, which has not flushed them: it may still fall back to any of the
        others, none of which was promised.
        """
        assert len(content) * UNIT >= self.size, "after a crash the volume is smaller (GROW-2)"
        self.size = len(content) * UNIT
        self.readings.clear()
        self.accepted_at.clear()
        now = self.tick()
        for unit, found in enumerate(content):
            allowed = {e.value for e in self.units[unit]}
            assert found is None or found in allowed, (
                f"unit {unit}: after a crash it holds bytes never promised"
            )
            values = allowed if found is None or unit in unsettled else {found}
            self.units[unit] = [Entry(v, now, now) for v in sorted(values)]

    def check_quiet(self, unit: int, found: bytes, what: str) -> None:
        """With nothing in flight a unit holds what a reader may see."""
        assert found in self.visible(unit), f"unit {unit}: {what} holds wrong bytes"

    def _widen_readings(self, unit: int, values: set[bytes]) -> None:
        for reading in self.readings:
            if 0 <= unit - reading.first < len(reading.allowed):
                reading.allowed[unit - reading.first].update(values)
