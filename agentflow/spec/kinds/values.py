"""Types and complaints that the options of several node types share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agentflow.spec.jsonschema import SchemaInvalid, compile_schema
from agentflow.spec.kinds.base import Complaint, Options, Place

Word = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Seconds = Annotated[float, Field(gt=0, le=3_155_760_000)]
"""At most a hundred years, so that every moment that follows from it is a date."""


def schema_complaints(options: Options, name: str) -> tuple[Complaint, ...]:
    """What is wrong with the JSON Schema in this option, if it is given."""
    if options.get(name) is None:
        return ()
    try:
        compile_schema(options[name])
    except SchemaInvalid as error:
        return (((name,), str(error)),)
    return ()


def output_fields(options: Options) -> tuple[Place, ...]:
    """The state fields that the option ``output``, a map of field to value, writes."""
    return tuple((("output", name), name) for name in options.get("output") or ())


def is_expression(text: str) -> bool:
    """Whether a text begins as ``${...}``, so that it stands for a value."""
    return text.lstrip().startswith("${")
