"""The table of D-Bus errors is complete, and its names are D-Bus names."""

from __future__ import annotations

import re

import pytest

from tcmu_restore import errors
from tcmu_restore.service.contract import ERROR_PREFIX, INTERNAL_ERROR
from tcmu_restore.service.errors import ERROR_NAMES, encode_error, error_class
from tests.service.samples import LEAF_CLASSES, sample


@pytest.mark.parametrize("cls", LEAF_CLASSES, ids=lambda cls: cls.__name__)
def test_leaf_class_has_a_name_that_leads_back_to_it(cls: type[errors.RestoreError]) -> None:
    name = ERROR_NAMES[cls]
    assert name == ERROR_PREFIX + cls.__name__.removesuffix("Error")
    assert re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*\.)+[A-Za-z_][A-Za-z0-9_]*", name)
    assert error_class(name) is cls


@pytest.mark.parametrize("cls", LEAF_CLASSES, ids=lambda cls: cls.__name__)
def test_leaf_class_is_encoded_as_its_sentence(cls: type[errors.RestoreError]) -> None:
    error = sample(cls)
    assert encode_error(error) == (ERROR_NAMES[cls], str(error))


def test_class_of_another_module_goes_by_its_base() -> None:
    class LocalError(errors.BadNameError):
        pass

    name, _ = encode_error(LocalError("x y", 64))
    assert name == ERROR_PREFIX + "BadName"


def test_unexpected_exception_is_internal_and_keeps_its_text_to_itself() -> None:
    name, message = encode_error(KeyError("secret"))
    assert name == INTERNAL_ERROR
    assert "KeyError" in message
    assert "secret" not in message


def test_foreign_name_has_no_class() -> None:
    assert error_class("org.freedesktop.DBus.Error.Failed") is None
