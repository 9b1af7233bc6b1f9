"""The daemon dies, then the link to the backup does, under load; the initiator stays logged in."""

from __future__ import annotations

from vagrant.lab import Lab

from .load import Load
from .stage import Stage, staged

KILLS = 2
CUT_SECONDS = 4
"""Longer than two keep-alives of the session are apart would be 6; in-flight commands notice."""


def daemon_killed_link_cut(lab: Lab) -> None:
    """kill -9 of tcmu-runner, again and again, then the thin link goes and comes back.

    There is much to fetch from the backup all the time.
    """
    with staged(lab, "killed") as stage:
        load = Load(stage)
        for _ in range(KILLS):
            load.go_on()
            lab.primary.run("systemctl kill --signal=KILL tcmu-runner")
        load.go_on()
        stage.wait_until("served again", lambda status: status["state"] != "degraded")
        _cut_link(stage)
        load.go_on()
        load.stop()
        load.check()
        stage.check_file_system()
        stage.check_equal()


def _cut_link(stage: Stage) -> None:
    stage.lab.primary.cut("thin")
    try:
        stage.wait_until("degraded", lambda status: status["state"] == "degraded")
        stage.lab.primary.run(f"sleep {CUT_SECONDS}")
    finally:
        stage.lab.primary.restore("thin")
