"""Input that somebody wrote on purpose: random, and valid things that were tampered with."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("TCMU_RESTORE_FUZZ", "60"))
"""A test, in the suite; a hunt takes thousands."""

fuzzed = settings(deadline=None, max_examples=EXAMPLES, print_blob=True)

TOKENS = (
    b"\x1b[2J",
    b"\x1b]0;title\x07",
    b"\r\n",
    b"\0",
    b"[" * 3000,
    b"{" * 3000,
    b"a=" + b"[" * 3000,
    b"9" * 5000,
    b"nan",
    b"-inf",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "\N{RIGHT-TO-LEFT OVERRIDE}".encode(),
    b"../../etc/shadow",
    b"\\ud800",
    b'"""',
)
"""What has hurt parsers and terminals."""

pieces = st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8))


@st.composite
def tampered(draw: st.DrawFn, valid: bytes) -> bytes:
    """*valid* with a few pieces replaced; sometimes something else altogether."""
    if draw(st.integers(0, 9)) == 0:
        return b"".join(draw(st.lists(pieces, max_size=8)))
    data = valid
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(pieces) + data[at + draw(st.integers(0, 8)) :]
    return data


def is_one_sentence(error: BaseException) -> bool:
    """Whether an error can be shown: one line, nothing a terminal obeys, and not endless."""
    text = str(error)
    return text.isprintable() and 0 < len(text) < 4000
