"""What the texts of a node refer to: the paths behind its templates and expressions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from agentflow.spec.expressions import ExpressionInvalid, compile_expression
from agentflow.spec.kinds.base import CEL, TEMPLATE, VALUES, Text
from agentflow.spec.templates import Embedded, expressions_in, paths, split_path

Json = Any
ALWAYS = {"state": "object", "outputs": "object", "execution": "object", "error": "any"}
"""Names that every expression may use, beside the state fields."""
ON_EDGES = {"result": "any"}
"""Names that conditions of outgoing edges may use besides."""
NOT_FIELDS = frozenset((*ALWAYS, *ON_EDGES, "item", "index")) - {"outputs"}


class Use(msgspec.Struct, frozen=True):
    """One path that a text refers to. ``expression``: from CEL, where names must be declared."""

    path: tuple[str, ...]
    at: tuple[str | int, ...]
    offset: int = 0
    expression: bool = False


class TextInvalid(ValueError):
    """An expression among the options does not compile; ``at`` and ``offset`` say where."""

    def __init__(self, at: tuple[str | int, ...], offset: int, cause: ExpressionInvalid) -> None:
        self.at = at
        self.offset = offset
        self.cause = cause
        super().__init__(cause.message)


class Named(Protocol):
    """A field as the spec or the plan has it."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...


def declared_names(fields: Iterable[Named], written: Iterable[str] = ()) -> dict[str, str]:
    """Name -> type of everything that an expression may refer to.

    ``written``: undeclared fields that some node writes. Conditions of edges may refer to
    :data:`ON_EDGES` as well.
    """
    names = dict.fromkeys(written, "any")
    names.update((field.name, field.type) for field in fields)
    names.update(ALWAYS)
    return names


def uses(text: Text, declared: Mapping[str, str]) -> list[Use]:
    """The paths a text refers to. Raises TextInvalid."""
    if text.names:
        declared = {**declared, **dict.fromkeys(text.names, "any")}
    if text.form == TEMPLATE:
        if not isinstance(text.value, str):
            return []
        return [Use(found.path, text.at, found.offset) for found in paths(text.value)]
    if text.form == CEL:
        return list(_expression(text.value, text.at, 0, declared))
    if text.form == VALUES:
        return list(_values(text.value, text.at, declared))
    path = split_path(text.value)
    return [Use(path, text.at)] if path else []


def _expression(
    text: str, at: tuple[str | int, ...], start: int, declared: Mapping[str, str]
) -> Iterator[Use]:
    try:
        compiled = compile_expression(text, declared)
    except ExpressionInvalid as error:
        raise TextInvalid(at, start + error.offset, error) from None
    for found in compiled.names():
        yield Use(found.path, at, start + found.offset, expression=True)


def _values(value: Json, at: tuple[str | int, ...], declared: Mapping[str, str]) -> Iterator[Use]:
    if isinstance(value, str) and "${" in value:
        try:
            parts = expressions_in(value)
        except ValueError as error:
            raise TextInvalid(at, value.find("${"), ExpressionInvalid(str(error))) from None
        for part in parts:
            if isinstance(part, Embedded):
                yield from _expression(part.text, at, part.offset, declared)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _values(item, (*at, key), declared)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _values(item, (*at, index), declared)
