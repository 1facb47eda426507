"""Values of MySQL: how JSON is bound to its places, and how they become JSON again."""

from __future__ import annotations

import json
from typing import Any

from agentflow.errors import InvalidInput

Json = Any


def literal(name: str, value: Json) -> str:
    """A value as SQL that holds nothing but digits: texts are written as their bytes."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value!r}e0" if "e" not in repr(value) else repr(value)
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return f"CONVERT(X'{value.encode().hex()}' USING utf8mb4)"
    except UnicodeEncodeError:
        raise InvalidInput(f"Parameter {name!r} is a text that is not Unicode") from None


def with_t(text: str) -> str:
    """``2026-11-22T10:00:00``."""
    return text.replace(" ", "T", 1)
