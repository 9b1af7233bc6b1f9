"""``tcmu-restore metrics``: the volumes' numbers for Prometheus, once or for every scrape."""

from __future__ import annotations

import click

from .context import CliContext


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
    from . import metric_export  # noqa: PLC0415 - prometheus_client brings an HTTP server

    exporter = metric_export.Exporter(cli.bus_address)
    if listen:
        exporter.serve(*parse_address(listen))
        return
    if textfile:
        exporter.write(textfile)
    else:
        click.echo(exporter.text(), nl=False)
    if exporter.last_error is not None:
        raise exporter.last_error


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
