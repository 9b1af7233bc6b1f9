"""Every error ends in one sentence and the documented status."""

from __future__ import annotations

import pytest

from tcmu_restore import errors
from tcmu_restore.cli.errors import ReplyError
from tcmu_restore.cli.exit_status import EXIT_STATUS, ExitStatus, exit_status
from tcmu_restore.service.errors import ERROR_NAMES
from tests.cli.command_line import CommandLine
from tests.service.fake_registry import FakeRegistry, make_status
from tests.service.samples import LEAF_CLASSES, sample

EXPECTED = {
    errors.UnknownVolumeError: 2,
    errors.BadUrlError: 2,
    errors.VolumeInUseError: 5,
    errors.WrongStateError: 5,
    errors.FencedError: 5,
    errors.StateCorruptError: 5,
    errors.SourceUnreachableError: 4,
    errors.SourceLoginError: 4,
    errors.ServiceUnavailableError: 3,
}


@pytest.mark.parametrize("cls", LEAF_CLASSES, ids=lambda cls: cls.__name__)
def test_leaf_class_is_in_the_table(cls: type[errors.RestoreError]) -> None:
    assert any(base in EXIT_STATUS for base in cls.__mro__)


@pytest.mark.parametrize(("cls", "status"), EXPECTED.items(), ids=str)
def test_class_has_the_documented_status(cls: type[errors.RestoreError], status: int) -> None:
    assert exit_status(sample(cls)) == status


def test_error_name_of_nobody_is_other() -> None:
    assert exit_status(ReplyError("org.freedesktop.DBus.Error.Failed", "?")) is ExitStatus.OTHER


def test_every_error_of_the_service_ends_in_its_sentence_and_status(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["v"] = make_status("v")
    for cls in LEAF_CLASSES:
        error = sample(cls)
        registry.failures["merge_start"] = error
        outcome = command_line("merge", "start", "v")
        assert outcome.out + outcome.err == f"tcmu-restore: {error}\n", cls
        assert (
            outcome.status == exit_status(error) == exit_status(ReplyError(ERROR_NAMES[cls], ""))
        ), cls


def test_unexpected_error_of_the_service_is_other(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.failures["merge_start"] = ZeroDivisionError()
    outcome = command_line("merge", "start", "v")
    assert outcome.status == ExitStatus.OTHER
    assert "went wrong inside the service" in outcome.out + outcome.err
