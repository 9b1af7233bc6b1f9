"""Every planted mistake still finds its text: a changed core takes its mutations along."""

from __future__ import annotations

from pathlib import Path

import pytest

import tcmu_restore.core

from .mutations import MUTATIONS, Mutation

CORE = Path(tcmu_restore.core.__file__).parent


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_applies(mutation: Mutation) -> None:
    source = (CORE / f"{mutation.module}.py").read_text(encoding="utf-8")
    compile(mutation.apply(source), mutation.module, "exec")


def test_names_are_unique() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
