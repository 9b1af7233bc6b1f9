"""The settings of a link as parameters: the command line's, in configshell's way.

configshell knows neither quotes nor blanks within a value, and drops what follows one without a
word; so the words of a list, and of a command, have commas between them.
"""

from __future__ import annotations

from typing import Any

from tcmu_restore.cli.link import parse_setting


def link_settings(node: Any, **texts: str | None) -> dict[str, Any]:
    """Return the settings that were given among *texts* to a command of *node*.

    Raises the shell's ExecutionError: one is not what it must be, or breaks off.
    """
    return {name: _value(node, name, text) for name, text in texts.items() if text is not None}


def _value(node: Any, name: str, text: str) -> Any:
    if name == "header_digest":
        return node.ui_eval_param(text, "bool", None)
    if not text or text.endswith(","):
        reason = "its value breaks off; commas stand between words, and there are no quotes"
        raise node.ui.ExecutionError(f"{name}: {reason}.")
    try:
        return parse_setting(name, text, between=",")
    except ValueError as error:
        raise node.ui.ExecutionError(f"{name}: {error}.") from error
