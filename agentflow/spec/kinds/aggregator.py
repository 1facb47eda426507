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
        Field(
            "merge",
            description="merge: an object of what is there; priority: the first that is there; "
            "template: a text; concat: their texts, joined; select: one value; vote: the value that "
            "most sources gave; custom: an expression.",
        )
    )
    source_keys: list[Path] = Field(
        ["text_result", "image_result", "db_result"],
        description="State paths that are joined, such as text_result or outputs.search.text. In a "
        "merge, text_result, image_result and db_result appear as text, image and data, others "
        "under their last segment.",
    )
    required: list[Path] = Field(
        [], description="State paths that must have a value; others are left out when missing."
    )
    priority_order: list[Path] | None = Field(
        None, description="Strategy priority: the paths, best first. Null: source_keys."
    )
    template: str | None = Field(None, description="Strategy template: the template.")
    separator: str = Field("\n\n", description="Strategy concat: what stands between two texts.")
    select_key: Path | None = Field(
        None, description="Strategy select: a state path, or a CEL expression."
    )
    expression: Path | None = Field(None, description="Strategy custom: a CEL expression.")
    min_votes: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Strategy vote: how many sources must give the same value. Null: more than half "
        "of those that gave one. Of equals, the first in canonical order wins.",
    )
    include_metadata: bool = Field(
        False,
        description="Add _meta: tokens_used, cost, execution_path, and the paths that were missing. "
        "A result that is no object is put under result.",
    )
    output_key: Path = Field("final_output", description="State field that is written.")


_NEEDS = {"template": "template", "select": "select_key", "custom": "expression"}


def is_path(text: str) -> bool:
    """Whether ``select_key`` is a plain state path rather than an expression."""
    return all(part.replace("-", "_").isidentifier() for part in text.split("."))


def _complaints(options: Options) -> tuple[Complaint, ...]:
    needed = _NEEDS.get(options["strategy"])
    if needed and not options.get(needed):
        return (((needed,), f"is missing: strategy {options['strategy']!r} needs it"),)
    votes, voters = options.get("min_votes"), len(options["source_keys"])
    if options["strategy"] == "vote" and votes is not None and votes > voters:
        return ((("min_votes",), f"is {votes}, but source_keys names only {voters}"),)
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
