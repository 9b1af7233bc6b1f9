"""The status table: complete, equal to the C header, and never success for an error."""

from __future__ import annotations

import inspect
import re

import pytest

from tcmu_restore import errors
from tcmu_restore.handler.build_handler import HERE
from tcmu_restore.handler.scsi_status import Status, information_of, is_known, status_of

LEAVES = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, errors.RestoreError) and not kind.__subclasses__()
]


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_every_leaf_exception_is_in_the_table(kind: type[errors.RestoreError]) -> None:
    assert is_known(kind)
    assert status_of(kind.__new__(kind)) is not Status.GOOD


def test_there_are_leaves() -> None:
    assert errors.LostRegionError in LEAVES


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, Status.GOOD),
        (errors.SourceUnreachableError("b", "gone"), Status.BUSY),
        (errors.SourceBusyError("b", "full"), Status.BUSY),
        (errors.LostRegionError(0, 1), Status.READ_ERROR),
        (errors.SourceReadError("p", "EIO"), Status.READ_ERROR),
        (errors.SourceWriteError("p", "EIO"), Status.WRITE_ERROR),
        (errors.SourceFlushError("p", "EIO"), Status.WRITE_ERROR),
        (errors.StateWriteError("s", "full"), Status.BUSY),
        (errors.MiscompareError(7), Status.MISCOMPARE),
        (errors.OutOfRangeError(0, 1, 0), Status.OUT_OF_RANGE),
        (errors.FencedError("v", "map"), Status.HARDWARE_ERROR),
        (AssertionError(), Status.HARDWARE_ERROR),
        (TimeoutError(), Status.HARDWARE_ERROR),
        (KeyboardInterrupt(), Status.HARDWARE_ERROR),
    ],
    ids=lambda value: type(value).__name__,
)
def test_status_of_an_error(error: BaseException | None, status: Status) -> None:
    assert status_of(error) is status


def test_information_is_the_first_differing_byte() -> None:
    assert information_of(errors.MiscompareError(511)) == 511
    assert information_of(errors.LostRegionError(511, 1)) == 0
    assert information_of(None) == 0


def test_values_are_those_of_the_c_header() -> None:
    text = (HERE / "tcmu_runner_abi.h").read_text()
    values = {int(number): name for name, number in re.findall(r"TCMU_STS_(\w+) = (-?\d+)", text)}
    names = {
        Status.GOOD: "OK",
        Status.BUSY: "BUSY",
        Status.WRITE_ERROR: "WR_ERR",
        Status.READ_ERROR: "RD_ERR",
        Status.MISCOMPARE: "MISCOMPARE",
        Status.HARDWARE_ERROR: "HW_ERR",
        Status.OUT_OF_RANGE: "RANGE",
    }
    assert {status: values[status] for status in Status} == names
