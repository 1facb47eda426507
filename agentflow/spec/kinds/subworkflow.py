"""Options of ``subworkflow`` nodes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from agentflow.spec.kinds.base import (
    PATH,
    VALUES,
    Complaint,
    NodeKind,
    Options,
    OptionsModel,
    Text,
)
from agentflow.spec.kinds.map import VERSION_SCHEMA, reference_complaints
from agentflow.spec.kinds.values import Word, output_fields

Json = Any


def _anything(value: Json) -> Json:
    return value


Version = Annotated[Any, PlainValidator(_anything), WithJsonSchema(VERSION_SCHEMA)]


class SubworkflowOptions(OptionsModel):
    """Executes another workflow. The result is ``{output, execution_id, status, cost}``."""

    workflow_id: Word | None = Field(None, description="A stored workflow, by its id.")
    version: Version | None = Field(
        None,
        description="Its version: a number, or published, which is looked up when the execution of "
        "this workflow begins. Null: published.",
        examples=[3, "published"],
    )
    workflow: dict[str, Any] | None = Field(
        None, description="Instead of workflow_id: a whole workflow, written out."
    )
    input: dict[Word, Any] | None = Field(
        None,
        description="What the workflow starts with: state field of it to value or ${expression}. "
        "Null: the whole state.",
        examples=[{"user_input": "${outputs.search.text}"}],
    )
    output: dict[Word, Any] = Field(
        {},
        description="State fields to write: name to value or ${expression} over result.",
        examples=[{"summary": "${result.output.text}"}],
    )
    wait: bool = Field(
        True,
        description="Whether the step waits for the end. If not, its result is {execution_id, status}.",
    )
    output_key: Word | None = Field(None, description="State field that takes the whole result.")


def _complaints(options: Options) -> tuple[Complaint, ...]:
    found = list(reference_complaints(options))
    given = [name for name in ("workflow_id", "workflow") if options.get(name) is not None]
    if not given:
        found.append((("workflow_id",), "is missing: name a workflow, or write one in 'workflow'"))
    elif len(given) == 2:
        found.append((("workflow",), "cannot be given together with 'workflow_id'"))
    if options["output"] and not options["wait"]:
        found.append((("output",), "needs 'wait': without it there is no output"))
    return tuple(found)


def _texts(options: Options) -> tuple[Text, ...]:
    whole = Text(("input",), PATH, "state")
    return (
        whole if options.get("input") is None else Text(("input",), VALUES, options["input"]),
        Text(("output",), VALUES, options["output"], names=("result",)),
    )


KIND = NodeKind(
    type="subworkflow",
    options=SubworkflowOptions,
    available=False,
    texts=_texts,
    sources=lambda options: (),
    complaints=_complaints,
    more_fields=output_fields,
)
