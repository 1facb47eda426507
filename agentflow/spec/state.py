"""The typed record passed between steps: built-in fields and merge rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Json = Any
RULES = ("last", "first", "sum", "concat", "merge", "max", "min")


class StateField(msgspec.Struct, frozen=True):
    """A field's type name, default and merge rule. ``engine``: the engine writes it."""

    name: str
    type: str = "any"
    default: Json = None
    merge: str = "last"
    engine: bool = False


BUILTIN: Mapping[str, StateField] = {
    field.name: field
    for field in (
        StateField("user_input", "string", ""),
        StateField("intent", "string", ""),
        StateField("text_result", "string", ""),
        StateField("image_result", "object", None),
        StateField("api_result", "object", None),
        StateField("db_result", "list", []),
        StateField("final_output", "any", None),
        StateField("tokens_used", "int", 0, "sum", engine=True),
        StateField("cost", "number", 0.0, "sum", engine=True),
        StateField("execution_time", "number", 0.0, "last", engine=True),
        StateField("metadata", "object", {}, "merge", engine=True),
        StateField("errors", "list", [], "concat", engine=True),
        StateField("execution_path", "list", [], "concat", engine=True),
        StateField("outputs", "object", {}, "merge", engine=True),
    )
}
"""The fields that every workflow has."""


def fields_of(normal: Mapping[str, Json]) -> dict[str, StateField]:
    """Built-in and declared fields of a normalised, valid document. A declaration may retype a
    built-in field that no engine writes."""
    fields = dict(BUILTIN)
    for name, declared in (normal.get("state") or {}).items():
        if name in fields and fields[name].engine:
            continue
        fields[name] = StateField(
            name,
            declared.get("type") or "any",
            declared.get("default"),
            declared.get("merge") or "last",
        )
    return fields


def merge(rule: str, a: Json, b: Json) -> Json:
    """The value of a field after ``b`` was written over ``a``, b being later in canonical order.

    Total and pure: None means absent, and a value that does not fit the rule (see :func:`fits`)
    counts as absent too, so that a fold cannot fail. Neither argument is changed.
    """
    if not fits(rule, b):
        b = None
    if not fits(rule, a):
        a = None
    if b is None:
        return [a] if rule == "concat" and a is not None and not isinstance(a, list) else a
    if a is None:
        return [b] if rule == "concat" and not isinstance(b, list) else b
    return _MERGE[rule](a, b)


def fits(rule: str, value: Json) -> bool:
    """Whether a field of this merge rule can take the value; the engine refuses others in a delta."""
    if value is None or rule in ("last", "first", "concat"):
        return True
    if rule == "merge":
        return isinstance(value, dict)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number or (rule in ("max", "min") and isinstance(value, str))


def _concat(a: Json, b: Json) -> list[Json]:
    return [*(a if isinstance(a, list) else [a]), *(b if isinstance(b, list) else [b])]


def _extreme(a: Json, b: Json, larger: bool) -> Json:
    if isinstance(a, str) != isinstance(b, str):
        return a
    return b if (b > a if larger else b < a) else a


_MERGE: Mapping[str, Callable[[Json, Json], Json]] = {
    "last": lambda a, b: b,
    "first": lambda a, b: a,
    "sum": lambda a, b: a + b,
    "concat": _concat,
    "merge": lambda a, b: {**a, **b},
    "max": lambda a, b: _extreme(a, b, True),
    "min": lambda a, b: _extreme(a, b, False),
}
