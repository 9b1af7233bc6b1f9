"""``tcmu-restore metrics``: the volumes' numbers for Prometheus, once or for every scrape."""

from __future__ import annotations

import socket
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import click
from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app, write_to_textfile

from .client import ServiceClient
from .context import CliContext
from .errors import MetricsError
from .metric_collector import StatusCollector
from .status_reading import read_statuses

ANSWER_SECONDS: Final = 5.0
"""Below the 10 s after which a scrape is given up."""


@click.command()
@click.option("--textfile", metavar="PATH", help="Write PATH whole, for the node exporter.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Serve http://ADDRESS:PORT/metrics.")
@click.pass_obj
def metrics(cli: CliContext, textfile: str | None, listen: str | None) -> None:
    """Print the numbers of all volumes in the form that Prometheus reads.

    A service that does not answer is told as tcmu_restore_up 0, and by the exit status.
    """
    if textfile and listen:
        raise click.UsageError("Either --textfile or --listen.")
    client = ServiceClient(cli.bus_address, timeout_seconds=ANSWER_SECONDS)
    collector = StatusCollector(lambda: read_statuses(client))
    registry = CollectorRegistry()
    registry.register(collector)
    if listen:
        _serve(registry, listen)
        return
    if textfile:
        _write(registry, textfile)
    else:
        click.echo(generate_latest(registry).decode(), nl=False)
    if collector.last_error is not None:
        raise collector.last_error


def _write(registry: CollectorRegistry, path: str) -> None:
    try:
        write_to_textfile(path, registry)  # to a file beside it, which is renamed then
    except OSError as error:
        raise MetricsError(path, error.strerror or str(error)) from error


def _serve(registry: CollectorRegistry, listen: str) -> None:
    address, port = parse_address(listen)
    server_class = _Server6 if ":" in address else _Server
    try:
        server = make_server(
            address, port, make_wsgi_app(registry), server_class, handler_class=_SilentHandler
        )
    except OSError as error:
        raise MetricsError(listen, error.strerror or str(error)) from error
    with server:
        host = f"[{address}]" if ":" in address else address
        click.echo(f"Serving http://{host}:{server.server_port}/metrics; Ctrl-C ends it.")
        server.serve_forever()


def parse_address(text: str) -> tuple[str, int]:
    """Return address and port of ``127.0.0.1:9101`` or ``[::1]:9101``.

    Raises:
        click.UsageError: It has no such form.
    """
    address, _, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not address or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:  # noqa: PLR2004
        raise click.UsageError(f"{text!r} is not ADDRESS:PORT; write for example 127.0.0.1:9101.")
    return address, int(port)


class _Server(ThreadingMixIn, WSGIServer):
    """A slow service must not hold up the next scrape, nor a scrape the end."""

    daemon_threads = True


class _Server6(_Server):
    address_family: int = int(socket.AF_INET6)


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing: a line a scrape is noise."""
