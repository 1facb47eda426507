"""Options of ``input`` nodes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agentflow.spec.kinds.base import PATH, Complaint, NodeKind, Options, OptionsModel, Text
from agentflow.spec.patterns import PatternError, compile_pattern

Transform = Literal["lowercase", "uppercase", "strip", "trim"]


class TextRules(OptionsModel):
    """Rules that a text must meet. ``pattern`` must match somewhere in it."""

    required: bool = False
    min_length: Annotated[int, Field(ge=0)] | None = None
    max_length: Annotated[int, Field(ge=0)] | None = None
    pattern: str | None = None


class InputOptions(OptionsModel):
    """Takes a value in: transforms, then checks it."""

    input_key: Annotated[str, Field(min_length=1)] = "user_input"
    output_key: Annotated[str, Field(min_length=1)] | None = None
    transform: Transform | list[Transform] | None = None
    validate_: TextRules | None = Field(None, alias="validate")
    schema_: dict[str, Any] | bool | None = Field(None, alias="schema")


def _complaints(options: Options) -> tuple[Complaint, ...]:
    from agentflow.spec.jsonschema import SchemaInvalid, compile_schema

    found: list[Complaint] = []
    rules = options.get("validate") or {}
    if rules.get("pattern") is not None:
        try:
            compile_pattern(rules["pattern"])
        except PatternError as error:
            found.append((("validate", "pattern"), f"is {error}"))
    low, high = rules.get("min_length"), rules.get("max_length")
    if low is not None and high is not None and low > high:
        found.append((("validate", "max_length"), f"is below min_length ({low})"))
    if options.get("schema") is not None:
        try:
            compile_schema(options["schema"])
        except SchemaInvalid as error:
            found.append((("schema",), str(error)))
    return tuple(found)


def _reads(options: Options) -> tuple[Text, ...]:
    return (Text(("input_key",), PATH, options["input_key"]),)


def _changes_something(options: Options) -> bool:
    return any(options.get(key) for key in ("transform", "validate", "schema"))


def _sources(options: Options) -> tuple[str, ...]:
    return ()


class _InputKind(NodeKind):
    def writes(self, options: Options) -> str | None:
        key = options.get("output_key")
        if key:
            return str(key)
        plain = options.get("input_key", "user_input") == "user_input"
        return None if plain and not _changes_something(options) else str(options["input_key"])


KIND = _InputKind(
    type="input",
    options=InputOptions,
    texts=_reads,
    sources=_sources,
    complaints=_complaints,
)
