"""The metrics as a text, as a file, and over HTTP. All that needs prometheus_client is here."""

from __future__ import annotations

import socket
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import click
from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app, write_to_textfile

from ..errors import RestoreError
from .client import ServiceClient
from .errors import MetricsError
from .metric_collector import StatusCollector
from .status_reading import read_statuses

ANSWER_SECONDS: Final = 5.0
"""Below the 10 s after which a scrape is given up."""


class Exporter:
    """Reads all volumes anew each time."""

    def __init__(self, bus_address: str | None) -> None:
        client = ServiceClient(bus_address, timeout_seconds=ANSWER_SECONDS)
        self._collector = StatusCollector(lambda: read_statuses(client))
        self._registry = CollectorRegistry()
        self._registry.register(self._collector)

    @property
    def last_error(self) -> RestoreError | None:
        """Why the last reading found nothing; None if it did."""
        return self._collector.last_error

    def text(self) -> str:
        """Return what Prometheus reads."""
        return generate_latest(self._registry).decode()

    def write(self, path: str) -> None:
        """Write the file *path* whole. Raises MetricsError."""
        try:
            write_to_textfile(path, self._registry)  # to a file beside it, which is renamed then
        except OSError as error:
            raise MetricsError(path, error.strerror or str(error)) from error

    def serve(self, address: str, port: int) -> None:
        """Answer scrapes until Ctrl-C. Raises MetricsError: there is no listening there."""
        host = f"[{address}]" if ":" in address else address
        server_class = _Server6 if ":" in address else _Server
        application = make_wsgi_app(self._registry)
        try:
            server = make_server(
                address, port, application, server_class, handler_class=_SilentHandler
            )
        except OSError as error:
            raise MetricsError(f"{host}:{port}", error.strerror or str(error)) from error
        with server:
            click.echo(f"Serving http://{host}:{server.server_port}/metrics; Ctrl-C ends it.")
            server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    """A slow service must not hold up the next scrape, nor a scrape the end."""

    daemon_threads = True


class _Server6(_Server):
    address_family: int = int(socket.AF_INET6)


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing: a line a scrape is noise."""
