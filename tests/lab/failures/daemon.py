"""The daemon dies, or the link to the backup does, under load; the initiator stays logged in."""

from __future__ import annotations

from vagrant.lab import Lab

from .load import Load
from .stage import staged

KILLS = 2
CUTS = 1
CUT_SECONDS = 4
"""Longer than two keep-alives of the session are apart would be 6; in-flight commands notice."""


def daemon_killed(lab: Lab) -> None:
    """kill -9 of tcmu-runner, again and again: nothing that was acknowledged is lost."""
    with staged(lab, "killed") as stage:
        load = Load(stage)
        for _ in range(KILLS):
            load.go_on()
            lab.primary.run("systemctl kill --signal=KILL tcmu-runner")
        load.go_on()
        stage.wait_until("served again", lambda status: status["state"] != "degraded")
        load.stop()
        load.check()
        stage.check_file_system()
        stage.check_equal()


def link_cut(lab: Lab) -> None:
    """The thin link goes and comes back, while there is much to fetch from the backup."""
    with staged(lab, "linkcut") as stage:
        load = Load(stage)
        for _ in range(CUTS):
            load.go_on()
            lab.primary.cut("thin")
            try:
                stage.wait_until("degraded", lambda status: status["state"] == "degraded")
                lab.primary.run(f"sleep {CUT_SECONDS}")
            finally:
                lab.primary.restore("thin")
        load.go_on()
        load.stop()
        load.check()
        stage.check_file_system()
        stage.check_equal()
