"""One call of targetd's JSON-RPC API, over HTTP or HTTPS with a user and password.

HTTPS checks the certificate against this host's trust store. A redirect is an error, not followed:
the password goes to the host that was named, and to no other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from ..errors import (
    BackupHostRefusedError,
    BackupHostUnreachableError,
    BadAnswerError,
    BadSettingError,
    TargetdLoginError,
)
from ..sources.credentials import load_credentials
from .answer import ANSWER_LENGTH_MAX, one_line, parse_answer

PORT: Final = 18700
PATH: Final = "/targetrpc"
SECONDS: Final = 120.0
"""targetd works on one request at a time."""

_OK: Final = 200
_UNAUTHORIZED: Final = 401

Call = Callable[..., Any]
"""``call(method, **parameters)`` returns the result."""


class TargetdCaller:
    """Calls of one targetd; *login* is a root-only file with ``user`` and ``password``.

    Raises BadSettingError, BadDefinitionError: the URL or the file cannot be used.
    """

    def __init__(self, url: str, login: str | None) -> None:
        self.url = url
        self._parts = _parse(url)
        if login is None:
            raise BadSettingError("login", "", "targetd wants a user and a password: name the file")
        self._login = login
        self._credentials = load_credentials(login)
        self._number = 0

    @property
    def host(self) -> str:
        """The host's name or address."""
        return str(self._parts.hostname)

    def __call__(self, method: str, **parameters: Any) -> Any:
        """Return the result of *method*.

        Raises:
            BackupHostUnreachableError: it may have happened; trying again may work.
            BackupHostRefusedError, BadAnswerError, TargetdLoginError: trying again won't help.
        """
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": parameters}
        answer = parse_answer(self.host, self._post(json.dumps(request).encode()))
        error = answer.get("error")
        if error is not None:
            said = error.get("message") if isinstance(error, dict) else None
            raise BackupHostRefusedError(self.host, f"{method}: {one_line(str(said))}")
        if answer.get("id") != self._number or "result" not in answer:
            raise BadAnswerError(self.host, f"it is no answer to {method}")
        return answer["result"]

    def _post(self, body: bytes) -> bytes:
        connection = self._connection()
        try:
            connection.request("POST", PATH, body, self._headers())
            response = connection.getresponse()
            data = response.read(ANSWER_LENGTH_MAX + 1)
        except (OSError, HTTPException) as error:
            reason = one_line(str(error)) or type(error).__name__
            raise BackupHostUnreachableError(self.host, reason) from error
        finally:
            connection.close()
        if response.status == _UNAUTHORIZED:
            raise TargetdLoginError(self.host, self._login)
        if response.status != _OK:
            raise BadAnswerError(self.host, f"HTTP status {response.status}")
        return data

    def _connection(self) -> HTTPConnection:
        port = self._parts.port or PORT
        if self._parts.scheme == "https":
            return HTTPSConnection(self.host, port, timeout=SECONDS)
        return HTTPConnection(self.host, port, timeout=SECONDS)

    def _headers(self) -> dict[str, str]:
        secret = f"{self._credentials.user}:{self._credentials.password}".encode()
        basic = base64.b64encode(secret).decode("ascii")
        return {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}


def _parse(url: str) -> SplitResult:
    """Return the parts of *url*. Raises BadSettingError; a password in it is not repeated."""
    try:
        parts = urlsplit(url)
        is_usable = parts.port is None or parts.port > 0
    except ValueError:
        is_usable = False
    if not is_usable or not parts.hostname or parts.path not in ("", "/", PATH):
        raise BadSettingError("targetd", "…", f"its URL has the form https://HOST[:PORT]{PATH}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise BadSettingError("targetd", "…", "user and password belong into the --login file")
    return parts
