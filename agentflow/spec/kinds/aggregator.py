"""Options of ``aggregator`` nodes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agentflow.spec.kinds.base import (
    CEL,
    PATH,
    TEMPLATE,
    Complaint,
    Json,
    NodeKind,
    Options,
    OptionsModel,
    Text,
)

Path = Annotated[str, Field(min_length=1)]
META_FIELDS = ("tokens_used", "cost", "execution_path")
"""The state fields under ``_meta`` when ``include_metadata`` is set."""


class AggregatorOptions(OptionsModel):
    """Joins the results of several steps into one."""

    strategy: Literal["merge", "priority", "template", "concat", "select", "vote", "custom"] = (
        "merge"
    )
    source_keys: list[Path] = ["text_result", "image_result", "db_result"]
    required: list[Path] = []
    priority_order: list[Path] | None = None
    template: str | None = None
    separator: str = "\n\n"
    select_key: Path | None = None
    expression: Path | None = None
    min_votes: Annotated[int, Field(ge=1)] | None = None
    include_metadata: bool = False
    output_key: Path = "final_output"


_NEEDS = {"template": "template", "select": "select_key", "custom": "expression"}


def is_path(text: str) -> bool:
    """Whether ``select_key`` is a plain state path rather than an expression."""
    return all(part.replace("-", "_").isidentifier() for part in text.split("."))


def _complaints(options: Options) -> tuple[Complaint, ...]:
    needed = _NEEDS.get(options["strategy"])
    if needed and not options.get(needed):
        return (((needed,), f"is missing: strategy {options['strategy']!r} needs it"),)
    return ()


def _complete(options: dict[str, Json]) -> dict[str, Json]:
    if options["priority_order"] is None:
        return {**options, "priority_order": options["source_keys"]}
    return options


def _texts(options: Options) -> tuple[Text, ...]:
    chosen = options["strategy"]
    texts: list[Text] = []
    for name in ("source_keys", "priority_order", "required"):
        if name == "source_keys" and chosen in ("template", "select", "custom"):
            continue
        keys = options.get(name) or ()
        texts += [Text((name, index), PATH, key) for index, key in enumerate(keys)]
    if chosen == "template":
        texts.append(Text(("template",), TEMPLATE, options["template"]))
    if chosen == "custom":
        texts.append(Text(("expression",), CEL, options["expression"]))
    if chosen == "select":
        form = PATH if is_path(options["select_key"]) else CEL
        texts.append(Text(("select_key",), form, options["select_key"]))
    if options["include_metadata"]:
        texts += [Text(("include_metadata",), PATH, name) for name in META_FIELDS]
    return tuple(texts)


def _sources(options: Options) -> tuple[str, ...]:
    return ()


KIND = NodeKind(
    type="aggregator",
    options=AggregatorOptions,
    field="final_output",
    texts=_texts,
    sources=_sources,
    complaints=_complaints,
    complete=_complete,
)
