"""CHAP in both directions on real targets, and where its secrets are found afterwards: nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vagrant.errors import GuestScriptError
from vagrant.lab import Lab
from vagrant.scene import THIN_BACKUP

from .failures.evidence import save_evidence
from .failures.served import ServedScene, call_words, has

pytestmark = [pytest.mark.lab, pytest.mark.long]

SIZE = 16 << 20
OURS, THEIRS, WRONG = "ours-secret-47a", "their-secret-48b", "wrong-secret-49c"
FILES = {
    "mutual": (OURS, THEIRS),
    "oneway": (OURS, ""),
    "wrong": (WRONG, THEIRS),
    "unproven": (OURS, WRONG),
}
"""Credentials files: what we prove, and what the target has to."""

WATCH = """dbus-monitor --system >/run/lab-bus 2>&1 & echo $! >/run/lab-watch
while :; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true; sleep 0.2; done \
  >/run/lab-processes & echo $! >>/run/lab-watch
wait || true"""

SEARCH = """kill $(cat /run/lab-watch) || true
journalctl --no-pager >/run/lab-journal; dmesg >/run/lab-dmesg
test -s /run/lab-bus; test -s /run/lab-processes
find /sys/kernel/config/target -type f -readable -print0 | xargs -0 cat 2>/dev/null \\
  >/run/lab-configfs || true
grep -rlaF -D skip -f /root/secrets /run /etc /var/lib /var/log /tmp 2>/dev/null || true"""
"""Prints the names of files with a secret in them."""


@contextmanager
def guarded(lab: Lab) -> Iterator[ServedScene]:
    """A backup and a snapshot behind CHAP, credentials files, and a blank disk."""
    scene = ServedScene(lab, "guarded", SIZE)
    chap = f"--chap us:{OURS} --mutual target:{THEIRS}"
    lab.backup.run(
        f"lab-thin create guarded {SIZE}b >/dev/null; head -c {SIZE} /dev/urandom "
        f">/dev/backup/guarded; lab-thin snapshot guarded guarded-snap >/dev/null\n"
        f"lab-export guarded /dev/backup/guarded --portal {THIN_BACKUP} {chap}\n"
        f"lab-export guarded-snap /dev/backup/guarded-snap --portal 10.77.2.1 --read-only {chap}"
    )
    for name, (password, proof) in FILES.items():
        text = f'user = "us"\npassword = "{password}"\n'
        text += f'target_user = "target"\ntarget_password = "{proof}"\n' if proof else ""
        lab.primary.put(f"/root/{name}.toml", text.encode(), mode=0o600)
    lab.primary.put("/root/secrets", f"{OURS}\n{THEIRS}\n{WRONG}\n".encode())
    scene.add_blank_disk()
    try:
        yield scene
    except BaseException:
        save_evidence(lab, "guarded")
        raise
    finally:
        lab.primary.run("lab-export guarded - --remove; tcmu-restore delete guarded || true")
        lab.primary.discard_disk("guarded")


def test_chap_secrets_are_found_nowhere(lab: Lab) -> None:
    with guarded(lab) as scene:
        _log_in_and_search(scene)
        _nobody_else_reads_or_asks(scene)


def _log_in_and_search(scene: ServedScene) -> None:
    primary = scene.lab.primary
    watching = primary.start_script(WATCH)
    for name in ("wrong", "unproven"):
        with pytest.raises(GuestScriptError, match="refused the login") as caught:
            primary.run(_create(scene, name))
        assert "padding" not in str(caught.value)
    primary.run(
        f"{_create(scene, 'mutual')}\n"
        f"lab-export guarded restore/guarded --plugin user --size {SIZE}\nsync"
    )
    credentials = f"{scene.snapshot_url} 1 credentials s /root/oneway.toml"
    scene.call("AttachSnapshot", "sa{sv}", credentials)
    scene.call("MergeStart")
    scene.wait_until("in sync", lambda status: status["state"] == "in_sync")
    on_primary = scene.digest(scene.lab.primary, scene.primary_disk)
    assert on_primary == scene.digest(scene.lab.backup, scene.backup_device)
    scene.call("DetachSnapshot")
    _log_in_wrongly_later(scene)
    found = primary.run(SEARCH, timeout_seconds=300)
    assert found.split() == []
    assert "guarded" in primary.run("cat /run/lab-bus")  # what was searched is what was meant
    watching.wait()


def _create(scene: ServedScene, credentials: str) -> str:
    settings = f"3 primary s {scene.primary_disk} backup s {scene.backup_url} "
    settings += f"credentials s /root/{credentials}.toml"
    return call_words("CreateVolume", scene.name, "a{sv}", settings)


def _log_in_wrongly_later(scene: ServedScene) -> None:
    """The secret was changed on one side only: the volume says so, and goes on without it."""
    scene.lab.primary.run(
        "cp -p /root/mutual.toml /root/kept.toml; cat /root/wrong.toml >/root/mutual.toml\n"
        "systemctl restart tcmu-runner"
    )
    status = scene.wait_until("refused", lambda s: "refused" in (s["backup"]["reason"] or ""))
    assert not status["backup"]["reachable"]
    scene.wait_until("degraded", has("degraded"))
    scene.lab.primary.run("cat /root/kept.toml >/root/mutual.toml; systemctl restart tcmu-runner")
    scene.wait_until("in sync", lambda s: s["backup"]["reachable"] and s["state"] == "in_sync")


def _nobody_else_reads_or_asks(scene: ServedScene) -> None:
    folders = "/etc/tcmu-restore/volumes /var/lib/tcmu-restore"
    found = scene.lab.primary.run(f"find {folders} ! -name lost+found -printf '%y%m %p\\n'")
    modes = {line.split()[0] for line in found.splitlines()}
    assert modes == {"d700", "f600"}, found
    as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    with pytest.raises(GuestScriptError, match=r"(?i)denied|rejected|not authorized"):
        scene.lab.primary.run(f"{as_nobody} {call_words('Status', scene.name)}")
