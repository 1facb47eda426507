"""Options of ``router`` nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
from agentflow.spec.patterns import PatternError, compile_pattern

_TEXT_RULE = re.compile(
    r"\s*(contains|starts_with|ends_with|equals)\s*\(\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\s*\)\s*"
)
_LENGTH_RULE = re.compile(r"\s*(length_gt|length_lt)\s*\(\s*(\d{1,9})\s*\)\s*")
NEEDS = {"keyword": "keywords", "pattern": "pattern", "rules": "condition"}
"""Router strategy -> what each of its routes must have."""


BUILT_IN = {
    "image": "asks for a picture to be made or changed",
    "database": "asks for data: records, tables, queries",
    "text": "everything else",
}
"""The classes of a router without routes, and what they mean."""

Word = Annotated[str, Field(min_length=1)]


class Route(OptionsModel):
    """One way out: an intent and what selects it."""

    intent: Word = Field(description="The intent that is chosen when this route matches.")
    keywords: list[Word] | None = Field(
        None,
        description="Strategy keyword, or fallback keyword: whole words or phrases, in any case.",
    )
    pattern: str | None = Field(
        None,
        description="Strategy pattern: a regular expression (RE2) found in the text, in any case.",
    )
    condition: str | None = Field(
        None,
        description="Strategy rules: contains('x'), starts_with('x'), ends_with('x'), equals('x'), "
        "length_gt(n), length_lt(n), all in any case, or a CEL expression.",
    )
    description: str | None = Field(
        None, description="What the intent means; strategy llm tells it to the model."
    )


class RouterOptions(OptionsModel):
    """Chooses an intent. The first route that matches wins."""

    strategy: Literal["keyword", "pattern", "rules", "llm", "classifier", "default"] | None = Field(
        None,
        description="How the intent is chosen. Left out: keyword with routes, llm with only a "
        "source, else default (words about pictures give image, about data database, else text).",
    )
    routes: list[Route] = Field(
        [],
        description="The ways out, in order. A router of strategy llm without routes chooses among "
        "the classes text, image and database.",
    )
    input_key: Word = Field("user_input", description="State path of the text looked at.")
    output_key: Word = Field("intent", description="State field that the intent is written to.")
    source: str | None = Field(None, description="Strategy llm: the source of the model.")
    prompt: str | None = Field(
        None,
        description="Strategy llm: template of the message to the model, which is told the intents "
        "besides. Left out: the text alone.",
    )
    model: str | None = Field(None, description="Strategy llm: a model other than the source's.")
    plugin: str | None = Field(None, description="Strategy classifier: the classifier's name.")
    default_intent: str = Field("unknown", description="The intent when nothing matches.")
    fallback: Literal["keyword", "default", "fail"] = Field(
        "default",
        description="What happens when the model or the classifier has failed, after its last "
        "attempt: choose by keywords, take default_intent, or fail the step.",
    )


def strategy(options: Options) -> str:
    """The router's strategy: the one it names, else by what it has."""
    if options.get("strategy"):
        return str(options["strategy"])
    if options.get("routes"):
        return "keyword"
    return "llm" if options.get("source") else "default"


def text_rule(condition: str) -> tuple[str, str | int] | None:
    """``contains('x')`` and its like as (name, argument), or None when the text is CEL."""
    found = _TEXT_RULE.fullmatch(condition)
    if found:
        quoted = found[2] if found[2] is not None else found[3]
        return found[1], re.sub(r"\\(.)", r"\1", quoted)
    found = _LENGTH_RULE.fullmatch(condition)
    return (found[1], int(found[2])) if found else None


def _complaints(options: Options) -> tuple[Complaint, ...]:
    found: list[Complaint] = []
    chosen = strategy(options)
    needed = NEEDS.get(chosen)
    for index, route in enumerate(options.get("routes") or ()):
        at = ("routes", index)
        if needed and not route.get(needed):
            found.append(
                ((*at, needed), f"is missing: every route of strategy {chosen!r} needs it")
            )
        if route.get("pattern") is not None:
            try:
                compile_pattern(route["pattern"], ignore_case=True)
            except PatternError as error:
                found.append(((*at, "pattern"), f"is {error}"))
    if needed and not options.get("routes"):
        found.append((("routes",), f"is empty: strategy {chosen!r} needs at least one route"))
    if chosen == "classifier" and not options.get("plugin"):
        found.append((("plugin",), "is missing: strategy 'classifier' needs the plugin's name"))
    return tuple(found)


def _texts(options: Options) -> tuple[Text, ...]:
    texts = [Text(("input_key",), PATH, options["input_key"])]
    if strategy(options) == "rules":
        texts += [
            Text(("routes", index, "condition"), CEL, route["condition"])
            for index, route in enumerate(options["routes"])
            if route.get("condition") and text_rule(route["condition"]) is None
        ]
    if options.get("prompt"):
        texts.append(Text(("prompt",), TEMPLATE, options["prompt"]))
    return tuple(texts)


def _needs_source(options: Options) -> bool:
    return strategy(options) == "llm" and not options.get("source")


def _unsupported(options: Options) -> tuple[str, ...]:
    chosen = strategy(options)
    return (f"router strategy {chosen!r}",) if chosen == "classifier" else ()


_REFINED: dict[str, dict[str, Json]] = {
    "llm": {"placement": "io", "effects": "idempotent", "attempts": 3},
    "classifier": {"placement": "cpu", "effects": "idempotent"},
}
"""Strategy -> what makes its routers another kind of work: they leave the coordinator."""


def _refine(options: Options, source: Options) -> Mapping[str, Json]:
    return _REFINED.get(strategy(options), {})


KIND = NodeKind(
    type="router",
    options=RouterOptions,
    field="intent",
    always_writes=True,
    texts=_texts,
    needs_source=_needs_source,
    complaints=_complaints,
    complete=lambda options: {**options, "strategy": strategy(options)},
    unsupported=_unsupported,
    refine=_refine,
)
