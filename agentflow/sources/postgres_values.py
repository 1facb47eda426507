"""Values of PostgreSQL: how JSON is bound to its types, and how they become JSON again."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any

from agentflow.errors import InvalidInput
from agentflow.sources.jsontext import read_json
from agentflow.sources.sql import Column

Json = Any
_WHOLE = ("int2", "int4", "int8", "oid")
_TEXTS = ("text", "varchar", "bpchar", "name", "unknown", "citext")
_BYTES = ("bytea", "char")
"""What the driver takes and gives as bytes; ``"char"`` is one byte, in no encoding."""


def _written(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _same(text: str) -> str:
    return text


def _with_t(text: str) -> str:
    """``2026-11-22T10:00:00``; what has no such form (infinity, years before Christ) stays."""
    return text.replace(" ", "T", 1) if text[:1].isdigit() and not text.endswith("BC") else text


def _instant(text: str) -> str:
    return _with_t(text[:-3] + "Z" if text.endswith("+00") else text)


CODECS: dict[str, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    "numeric": (_written, _same),
    "float4": (_written, float),
    "date": (_written, _same),
    "timestamp": (_written, _with_t),
    "timestamptz": (_written, _instant),
    "time": (_written, _same),
    "timetz": (_written, _same),
    "interval": (_written, _same),
    "json": (json.dumps, read_json),
    "jsonb": (json.dumps, read_json),
}


_COLUMNS = {
    **dict.fromkeys(("date", "time", "timestamp", "timestamptz", "uuid", "bool"), ""),
    **dict.fromkeys(_TEXTS, "text"),
    **dict.fromkeys(("timetz", "interval"), "text"),
    **dict.fromkeys(("json", "jsonb"), "json"),
    "int2": "int16", "int4": "int32", "int8": "int64", "oid": "int64",
    "float4": "float32", "float8": "float64", "numeric": "decimal",
    **dict.fromkeys(_BYTES, "bytes"),
}  # fmt: skip


def columns_of(statement: Any) -> list[Column]:
    """The columns of a prepared statement's rows."""
    found = []
    for attribute in statement.get_attributes():
        name, kind = attribute.name, attribute.type
        inner, array = kind.name.removesuffix("[]"), "[]" if kind.kind == "array" else ""
        known = _COLUMNS.get(inner, "other") or inner
        found.append(Column(name, known + array))
    return found


def bound(
    parameters: Sequence[Any],
    names: Sequence[str],
    values: Sequence[Json],
) -> list[Any]:
    """The values as the driver takes them, by the types that the server expects."""
    kinds = [parameter.name for parameter in parameters]
    fitted = []
    for name, value, kind in zip(names, values, kinds):
        try:
            fitted.append(_value(value, kind))
        except (ValueError, TypeError, binascii.Error):
            raise InvalidInput(
                f"Parameter {name!r} does not fit the type {kind} of its place"
            ) from None
    return fitted


def _value(value: Json, kind: str) -> Any:
    if value is None:
        return None
    if kind.endswith("[]"):
        if not isinstance(value, list):
            raise TypeError
        return [_value(item, kind if isinstance(item, list) else kind[:-2]) for item in value]
    if kind in _WHOLE:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        return int(value)
    if kind == "float8":
        return float(value)
    if kind == "bool":
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise TypeError
        return value
    if kind in _BYTES:
        return base64.b64decode(value, validate=True)
    if kind in _TEXTS and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value
