"""What an admin tells the jobs of an open volume: merge, resync, verify. Durable on return."""

from __future__ import annotations

from ..core.verify import Repair
from ..errors import BadSettingError, WrongStateError
from .merge_job import MergeState
from .verify_job import VerifyState
from .volume_engine import VolumeEngine

_MERGE_ALLOWED = {
    "start": (MergeState.IDLE, MergeState.DONE),
    "pause": (MergeState.RUNNING,),
    "resume": (MergeState.PAUSED,),
    "cancel": (MergeState.RUNNING, MergeState.PAUSED),
}

_VERIFY_ALLOWED = {
    "start": (VerifyState.IDLE, VerifyState.DONE),
    "pause": (VerifyState.RUNNING,),
    "resume": (VerifyState.PAUSED,),
    "cancel": (VerifyState.RUNNING, VerifyState.PAUSED),
}


async def merge(engine: VolumeEngine, verb: str) -> None:
    """Start, pause, resume or cancel the merge; its link is brought up before, or taken down after.

    Raises:
        WrongStateError: it does not fit. LinkCommandError: the merge was not started; or it was
            cancelled, and its link may still be up.
    """
    job = engine.merge
    if job.state not in _MERGE_ALLOWED[verb]:
        raise WrongStateError(engine.name, f"{verb} the merge", f"it is {job.state.value}")
    if engine.snapshot is None and verb in ("start", "resume"):
        raise WrongStateError(engine.name, f"{verb} the merge", "no snapshot is attached")
    if verb in ("start", "resume"):
        with engine.alone(f"{verb} the merge"):
            await engine.link.bring_up()
    {"start": job.start, "pause": job.pause, "resume": job.resume, "cancel": job.stop}[verb]()
    await engine.keep_facts()
    if verb == "cancel":
        await engine.link.ended()


async def resync(engine: VolumeEngine, verb: str) -> None:
    """Pause the resync, or let it go on (resume)."""
    {"pause": engine.resync.pause, "resume": engine.resync.resume}[verb]()
    engine.events.add("command", f"Command: {verb} the resync.")
    await engine.keep_facts()


async def verify(engine: VolumeEngine, verb: str, repair: str = "none") -> None:
    """Start, pause, resume or cancel the verification.

    Raises:
        WrongStateError: it does not fit. BadSettingError: *repair* is none of its words.
    """
    job = engine.verify
    if job.state not in _VERIFY_ALLOWED[verb]:
        raise WrongStateError(engine.name, f"{verb} the verification", f"it is {job.state.value}")
    if verb == "start":
        job.start(_repair(repair))
    else:
        {"pause": job.pause, "resume": job.resume, "cancel": job.cancel}[verb]()
    engine.events.add("command", f"Command: {verb} the verification.")
    await engine.keep_facts()


def _repair(word: str) -> Repair:
    try:
        return Repair(word)
    except ValueError:
        raise BadSettingError("repair", word, "it must be none, primary or backup") from None
