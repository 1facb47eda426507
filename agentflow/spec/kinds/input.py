"""Options of ``input`` nodes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agentflow.spec.kinds.base import PATH, Complaint, NodeKind, Options, OptionsModel, Text
from agentflow.spec.patterns import PatternError, compile_pattern
from agentflow.spec.templates import split_path

Transform = Literal["lowercase", "uppercase", "strip", "trim"]
Word = Annotated[str, Field(min_length=1)]


class TextRules(OptionsModel):
    """Rules that a text must meet. ``pattern`` must match somewhere in it."""

    required: bool = Field(False, description="Refuse a value that is missing or empty text.")
    min_length: Annotated[int, Field(ge=0)] | None = Field(
        None, description="The fewest characters."
    )
    max_length: Annotated[int, Field(ge=0)] | None = Field(None, description="The most characters.")
    pattern: str | None = Field(
        None, description="A regular expression (RE2), found somewhere in the text."
    )


class InputOptions(OptionsModel):
    """Takes a value in: transforms, then checks it."""

    input_key: Word = Field("user_input", description="State path of the value.")
    output_key: Word | None = Field(
        None, description="State field that is written. Null: the one that was read."
    )
    transform: Transform | list[Transform] | None = Field(
        None,
        description="What is done to the text, in this order. strip and trim take the white space "
        "from both ends.",
    )
    validate_: TextRules | None = Field(
        None, alias="validate", description="Rules for text; validation is the same."
    )
    schema_: dict[str, Any] | bool | None = Field(
        None,
        alias="schema",
        description="JSON Schema (2020-12) that the value must fit, for structured input.",
    )


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
    if target(options) is None and options.get("transform"):
        key = options["input_key"]
        found.append((("output_key",), f"is missing: {key!r} is a part of a field, not a field"))
    return tuple(found)


def target(options: Options) -> str | None:
    """The field written when the value is written; None when only a part of a field was read."""
    if options.get("output_key"):
        return str(options["output_key"])
    path = split_path(options.get("input_key", "user_input"))
    path = path[1:] if path[:1] == ("state",) else path
    return path[0] if len(path) == 1 else None


def _reads(options: Options) -> tuple[Text, ...]:
    return (Text(("input_key",), PATH, options["input_key"]),)


def _sources(options: Options) -> tuple[str, ...]:
    return ()


class _InputKind(NodeKind):
    def main_field(self, options: Options) -> str | None:
        field = target(options)
        plain = field == "user_input" and not options.get("output_key")
        return None if plain and not options.get("transform") else field


KIND = _InputKind(
    type="input",
    options=InputOptions,
    texts=_reads,
    sources=_sources,
    complaints=_complaints,
)
