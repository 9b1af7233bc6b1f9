"""Reading the report of the conformance suite; needs no machine."""

from __future__ import annotations

import pytest

from tests.lab.conformance import parse_report

SAMPLE = """\
Suite: Verify10
  Test: Simple ...passed
  Test: VerifyProtect ...    [FAILED] VERIFY10 successful but should have failed
    [FAILED] VERIFY10 successful but should have failed
FAILED
    1. test_verify10_vrprotect.c:45  - CU_ASSERT_EQUAL(_r,0)
  Test: Dpo ...FAILED
    1. test_verify10_dpo.c:87  - CU_ASSERT_EQUAL(usage_data_dpo,0x10)
Suite: CompareAndWrite
  Test: Simple ...passed
  Test: InvalidDataOutSize ...    [SKIPPED] LBPPB < 2. Skipping test
passed

Tests completed with return value: 0
"""


def test_report_tells_passed_failed_and_skipped_by_suite_and_name() -> None:
    report = parse_report(SAMPLE)
    assert report.passed == {"Verify10.Simple", "CompareAndWrite.Simple"}
    assert report.failed == {"Verify10.VerifyProtect", "Verify10.Dpo"}
    assert report.skipped == {"CompareAndWrite.InvalidDataOutSize"}
    assert str(report).startswith("2 passed, 1 skipped, 2 failed: Verify10.Dpo")


def test_report_that_ends_early_is_refused() -> None:
    with pytest.raises(ValueError, match="did not end"):
        parse_report(SAMPLE.partition("Tests completed")[0])
