"""What reads the status document finds in a real one all that it looks for."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import cast

import pytest
from rich.console import Console

from tcmu_restore.cli.map_kinds import Map
from tcmu_restore.cli.map_view import print_map
from tcmu_restore.cli.metric_table import METRICS
from tcmu_restore.cli.status_view import print_status
from tcmu_restore.service.registry_seam import MapSummary, VolumeStatus
from tests.support.tgt import MISSING

from .rig import Rig, merged, read, run

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def test_real_status_has_every_metric_and_fits_every_view(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await read(engine, 0, 4096)
            await rig.registry.attach_snapshot("v", rig.snapshot.url)
            await rig.registry.merge_start("v")
            await merged(engine)
            document = json.loads(json.dumps(rig.registry.status("v")))
            map_document = json.loads(json.dumps(await rig.registry.map("v", 64)))
        status = cast(VolumeStatus, document)
        assert [metric.name for metric in METRICS if not metric.samples(status)] == []
        out = io.StringIO()
        console = Console(file=out, width=120)
        print_status(console, status)
        print_map(console, Map.of(cast(MapSummary, map_document)), columns=64, moment=MOMENT)
        text = out.getvalue()
        for words in ("in sync", "The merge is done.", "8 MiB read", " ms", "C" * 64):
            assert words in text

    run(go)
