"""Options of ``langgraph`` nodes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from agentflow.spec.kinds.base import (
    PATH,
    VALUES,
    NodeKind,
    Options,
    OptionsModel,
    Text,
)
from agentflow.spec.kinds.values import Word, output_fields

_GRAPH = r"^[A-Za-z_][A-Za-z0-9_.-]*(:[A-Za-z_][A-Za-z0-9_.]*)?$"


class LanggraphOptions(OptionsModel):
    """Runs a compiled LangGraph graph of the operator's allow-list."""

    graph: Annotated[str, Field(pattern=_GRAPH)] = Field(
        description="A name of the operator's allow-list, or package.module:attribute when that is "
        "on it.",
        examples=["reviews.graphs:review"],
    )
    input: dict[Word, Any] | None = Field(
        None,
        description="The graph's input: name to value or ${expression}. Null: the whole state.",
        examples=[{"question": "${user_input}"}],
    )
    output: dict[Word, Any] = Field(
        {},
        description="State fields to write: name to value or ${expression} over result, the graph's "
        "final state.",
        examples=[{"final_output": "${result.answer}"}],
    )
    config: dict[str, Any] = Field(
        {}, description="LangGraph's config; its values may hold ${expression}."
    )
    checkpoint: bool = Field(
        True,
        description="Whether checkpoints are stored, so that a crash resumes inside the graph.",
    )
    recursion_limit: Annotated[int, Field(ge=1)] = Field(
        25, description="Most supersteps of the graph."
    )
    output_key: Word | None = Field(
        None, description="State field that takes the graph's whole result."
    )


def _texts(options: Options) -> tuple[Text, ...]:
    whole = Text(("input",), PATH, "state")
    return (
        whole if options.get("input") is None else Text(("input",), VALUES, options["input"]),
        Text(("output",), VALUES, options["output"], names=("result",)),
        Text(("config",), VALUES, options["config"]),
    )


KIND = NodeKind(
    type="langgraph",
    options=LanggraphOptions,
    effects="idempotent",
    placement="io",
    available=False,
    texts=_texts,
    sources=lambda options: (),
    more_fields=output_fields,
)
