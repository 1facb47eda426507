"""``{path}`` in text and ``${expression}`` in structured values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from agentflow.spec.expressions import Expression, compile_expression

Json = Any
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PATH = rf"{_NAME}(?:\.{_NAME})*"
_PLACEHOLDER = re.compile(rf"\{{\{{({_PATH})\}}\}}|\{{({_PATH})\}}")
_ABSENT = object()


class Placeholder(msgspec.Struct, frozen=True):
    """A ``{path}`` of a template: its segments, and the character offset of its brace."""

    path: tuple[str, ...]
    offset: int


def paths(text: str) -> tuple[Placeholder, ...]:
    """The placeholders of a template, in order of appearance."""
    return tuple(
        Placeholder(tuple(found[2].split(".")), found.start())
        for found in _PLACEHOLDER.finditer(text)
        if found[2]
    )


def render(text: str, view: Mapping[str, Json], missing: list[str] | None = None) -> str:
    """The text with every ``{path}`` replaced by its value in the view.

    Strings are inserted as they are, other values as compact JSON. A path that is absent stays as it
    is and is appended to ``missing``. ``{{path}}`` gives a literal ``{path}``; other braces are left.
    """

    def insert(found: re.Match[str]) -> str:
        if found[1]:
            return "{" + found[1] + "}"
        value = look_up(view, tuple(found[2].split(".")), _ABSENT)
        if value is _ABSENT:
            if missing is not None:
                missing.append(found[2])
            return found[0]
        return value if isinstance(value, str) else compact(value)

    return _PLACEHOLDER.sub(insert, text)


def look_up(view: Mapping[str, Json], path: tuple[str, ...], default: Json = None) -> Json:
    """The value at a path of the view; ``state.x`` is ``x``. ``default`` when it is absent."""
    if path and path[0] == "state" and "state" not in view:
        if len(path) == 1:
            return dict(view)
        path = path[1:]
    value: Json = view
    for segment in path:
        if not isinstance(value, Mapping) or segment not in value:
            return default
        value = value[segment]
    return value


@lru_cache(maxsize=4096)
def split_path(text: str) -> tuple[str, ...]:
    """The segments of a path option. ``outputs.<node>`` may name a node whose id holds dots only in
    the form ``outputs['my.node']``; hyphens need no quotes."""
    segments = re.findall(r"\['([^']*)'\]|\[\"([^\"]*)\"\]|([^.\[\]]+)", text)
    return tuple(next(part for part in found if part) for found in segments if any(found))


def compact(value: Json) -> str:
    """Compact JSON, as inserted into text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)


def expressions_in(text: str) -> tuple[str | Embedded, ...]:
    """A string split into literal text and ``${...}`` parts; ``$${`` is a literal ``${``.

    Raises ValueError when a ``${`` is never closed.
    """
    parts: list[str | Embedded] = []
    literal, at = "", 0
    while True:
        start = text.find("${", at)
        if start < 0:
            break
        if start > at and text[start - 1] == "$":
            literal += text[at : start - 1] + "${"
            at = start + 2
            continue
        end = _closing(text, start + 2)
        literal += text[at:start]
        if literal:
            parts.append(literal)
        literal = ""
        parts.append(Embedded(text[start + 2 : end], start + 2))
        at = end + 1
    literal += text[at:]
    if literal or not parts:
        parts.append(literal)
    return tuple(parts)


class Embedded(msgspec.Struct, frozen=True):
    """The text between ``${`` and ``}``, and where it starts."""

    text: str
    offset: int


def resolve_values(value: Json, view: Mapping[str, Json], declared: Mapping[str, str]) -> Json:
    """A structured value with every ``${...}`` evaluated.

    A string that is exactly one expression keeps the expression's type; else results are inserted as
    text. Raises ExpressionError.
    """
    if isinstance(value, str):
        return _resolve_text(value, view, declared) if "${" in value else value
    if isinstance(value, Mapping):
        return {key: resolve_values(item, view, declared) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve_values(item, view, declared) for item in value]
    return value


def _resolve_text(text: str, view: Mapping[str, Json], declared: Mapping[str, str]) -> Json:
    parts = expressions_in(text)
    if len(parts) == 1 and isinstance(parts[0], Embedded):
        return _compiled(parts[0], declared).evaluate(view)
    out = ""
    for part in parts:
        if isinstance(part, str):
            out += part
        else:
            result = _compiled(part, declared).evaluate(view)
            out += result if isinstance(result, str) else compact(result)
    return out


def _compiled(part: Embedded, declared: Mapping[str, str]) -> Expression:
    return compile_expression(part.text, declared)


def _closing(text: str, at: int) -> int:
    """Where the brace that closes an expression is; braces in its strings and maps do not count."""
    depth, quote = 0, ""
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char == "{":
            depth += 1
        elif char == "}":
            if not depth:
                return at
            depth -= 1
        at += 1
    raise ValueError("a '${' is never closed by '}'")
