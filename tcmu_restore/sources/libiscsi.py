"""The only module that touches cffi's view of libiscsi; its users see no C type.

One ``Context`` is one attempt at one session: it is connected once, and after any
trouble it is destroyed, never reused. See ``libiscsi_shim.c`` for what belongs to
whom and when memory is let go. All calls come from the loop's thread; none blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ..core.buffer import Buffers
from ._libiscsi import ffi as _untyped_ffi
from ._libiscsi import lib as _untyped_lib
from .credentials import Credentials
from .iscsi_url import format_portal
from .scsi import Outcome

_ffi: Any = _untyped_ffi
_lib: Any = _untyped_lib

_from_buffer = _ffi.from_buffer
_unpack = _ffi.unpack
_submit = _lib.lc_submit
_submit_one = _lib.lc_submit_one
_service = _lib.lc_service
_NULL: Final = _ffi.NULL

POLLIN: Final[int] = _lib.POLLIN
POLLOUT: Final[int] = _lib.POLLOUT

NO_DATA: Final[int] = _lib.SCSI_XFER_NONE
DATA_IN: Final[int] = _lib.SCSI_XFER_READ
DATA_OUT: Final[int] = _lib.SCSI_XFER_WRITE
"""The direction of a command's data, as the initiator sees it."""

_PENDING: Final[int] = _lib.LC_PENDING
_REDIRECT: Final[int] = _lib.SCSI_STATUS_REDIRECT
_FLAT_SPACE: Final = 0x4000
_PERIPHERAL_LUN_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """What a session is opened with."""

    initiator: str
    iqn: str
    lun: int
    isid: tuple[int, int]
    """24 and 16 bits. The same ISID at the next login makes the target end the old session and its
    commands first. Source: RFC 7143 section 6.3.5, session reinstatement."""

    header_digest: bool
    credentials: Credentials | None
    tcp_timeout_ms: int
    """How long TCP may wait for an acknowledgement. Source: tcp(7), TCP_USER_TIMEOUT."""

    interface: str | None = None
    """The only network interface to use. Source: socket(7), SO_BINDTODEVICE."""

    source_address: str | None = None
    """The numeric address to connect from."""


class LibiscsiError(Exception):
    """libiscsi refused a call; ``str()`` is its own message."""


class Context:
    """A thin cover of one ``struct lc_context``."""

    __slots__ = ("_c", "_origin")

    def __init__(self, settings: ContextSettings) -> None:
        lun = settings.lun
        self._c: Any = _lib.lc_create(
            settings.initiator.encode("ascii"),
            settings.iqn.encode("ascii"),
            lun if lun <= _PERIPHERAL_LUN_MAX else _FLAT_SPACE | lun,
            *settings.isid,
            settings.header_digest,
            settings.tcp_timeout_ms,
        )
        if self._c == _NULL:
            raise MemoryError
        self._origin = tuple(
            word.encode() if word else _NULL
            for word in (settings.interface, settings.source_address)
        )
        if settings.credentials is not None:
            self._set_chap(settings.credentials)

    def connect(self, host: str, port: int) -> int:
        """Begin to connect to a *numeric* host; return the file descriptor to poll.

        Raises:
            LibiscsiError: also if the interface or the source address cannot be used.
        """
        portal = format_portal(host, port).encode("ascii")
        words = host.encode("ascii"), str(port).encode("ascii"), *self._origin
        self._check(_lib.lc_connect(self._c, portal, *words))
        return int(self._c.fd)

    def login(self) -> None:
        """Begin the login; ``login_status`` tells how it went."""
        self._check(_lib.lc_login(self._c))

    def logout(self) -> None:
        """Begin the logout; ``is_logged_out`` tells when it is done."""
        self._check(_lib.lc_logout(self._c))

    def send_nop(self) -> None:
        """Send a NOP-Out that the target must answer."""
        self._check(_lib.lc_nop(self._c))

    @property
    def is_connected(self) -> bool | None:
        """Whether TCP is up; None while that is not known."""
        status = self._c.connect_status
        return None if status == _PENDING else status == 0

    @property
    def is_logged_in(self) -> bool | None:
        """Whether the login was accepted; None while that is not known."""
        status = self._c.login_status
        return None if status == _PENDING else status == 0

    @property
    def is_redirected(self) -> bool:
        """Whether the target answered the login with another address."""
        return bool(self._c.login_status == _REDIRECT)

    @property
    def is_logged_out(self) -> bool:
        """Whether the target answered the logout."""
        return bool(self._c.logout_status != _PENDING)

    @property
    def moved(self) -> int:
        """Bytes that the peer's kernel has acknowledged, and that came from it."""
        return int(_lib.lc_moved(self._c))

    @property
    def unanswered_nops(self) -> int:
        """How many NOP-Outs in a row have no answer."""
        return int(_lib.iscsi_get_nops_in_flight(self._c.iscsi))

    @property
    def error(self) -> str:
        """Why connect or login failed, or libiscsi's last message: one line."""
        text = _ffi.string(self._c.error) or _ffi.string(_lib.iscsi_get_error(self._c.iscsi), 255)
        return " ".join(text.decode("utf-8", errors="replace").split())

    @property
    def has_parked(self) -> bool:
        """Whether libiscsi may still look at the bytes of failed writes."""
        return bool(self._c.parked_count)

    def submit(self, tag: int, cdb: bytes, direction: int, length: int, buffers: Buffers) -> object:
        """Queue a command under *tag*, which is not in use.

        Args:
            length: bytes of all *buffers*.

        Returns:
            What the caller must keep until the tag was reported or ``destroy`` returned: it holds
            the memory that libiscsi reads from or writes to.
        """
        keep: object
        if len(buffers) == 1:
            keep = base = _from_buffer(buffers[0])
            result = _submit_one(self._c, tag, cdb, len(cdb), direction, length, base)
        elif not buffers:
            keep = None
            result = _submit_one(self._c, tag, cdb, len(cdb), direction, 0, _NULL)
        else:
            keep = bases = [_from_buffer(part) for part in buffers]
            parts = _ffi.new(
                "struct lc_part[]",
                [(base, part.nbytes) for base, part in zip(bases, buffers, strict=True)],
            )
            result = _submit(self._c, tag, cdb, len(cdb), direction, length, parts, len(parts))
        if result:
            raise LibiscsiError(self.error)
        return keep

    def service(self, events: int) -> int:
        """Send and receive what can be; return the events to wait for, -1 if the session is lost.

        Results collected before a loss are good, so fetch them also then.
        """
        return _service(self._c, events)  # type: ignore[no-any-return]

    def take_good(self) -> list[int]:
        """Return the tags of the commands that ended well since the last call."""
        c = self._c
        count = c.good_count
        if not count:
            return []
        c.good_count = 0
        return _unpack(c.good, count)  # type: ignore[no-any-return]

    def take_failed(self) -> list[tuple[int, Outcome]]:
        """Return (tag, outcome) of the commands that ended otherwise since the last call."""
        c = self._c
        count = c.failed_count
        if not count:
            return []
        c.failed_count = 0
        entries = (c.failed[index] for index in range(count))
        return [
            (entry.tag, Outcome(entry.status, entry.sense_key, entry.asc_ascq, entry.residual))
            for entry in entries
        ]

    def destroy(self) -> None:
        """Close the connection. From here on libiscsi holds no memory of any command."""
        c, self._c = self._c, _NULL
        _lib.lc_destroy(c)

    def _set_chap(self, credentials: Credentials) -> None:
        target_user, target_password = credentials.target_user, credentials.target_password
        result = _lib.lc_set_chap(
            self._c,
            credentials.user.encode(),
            credentials.password.encode(),
            _NULL if target_user is None else target_user.encode(),
            _NULL if target_password is None else target_password.encode(),
        )
        self._check(result)

    def _check(self, result: int) -> None:
        if result != 0:
            raise LibiscsiError(self.error)
