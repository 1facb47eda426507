"""Regular expressions that authors write: RE2, so matching takes linear time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


class PatternError(ValueError):
    """The text is not a regular expression of RE2; the message says why."""


class Pattern:
    """A compiled pattern."""

    def __init__(self, text: str, compiled: Any) -> None:
        self.text = text
        self._compiled = compiled

    def found_in(self, text: str) -> bool:
        """Whether the pattern matches anywhere in the text."""
        return self._compiled.search(_clean(text)) is not None

    def matches(self, text: str) -> bool:
        """Whether the pattern matches the whole text."""
        return self._compiled.fullmatch(_clean(text)) is not None


@lru_cache(maxsize=2048)
def compile_pattern(text: str, *, ignore_case: bool = False) -> Pattern:
    """The pattern of this text. Raises PatternError, naming the reason and RE2's limits."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    options.max_mem = 8 << 20
    try:
        return Pattern(text, re2.compile(_clean(text), options))
    except re2.error as error:
        reason = error.args[0] if error.args else "invalid"
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise PatternError(
            f"not a regular expression ({reason}); look-around and back-references do not exist here"
        ) from None


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()
