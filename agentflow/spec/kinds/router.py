"""Options of ``router`` nodes."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from agentflow.spec.kinds.base import (
    CEL,
    PATH,
    TEMPLATE,
    Complaint,
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


class Route(OptionsModel):
    """One way out: an intent and what selects it."""

    intent: Annotated[str, Field(min_length=1)]
    keywords: list[Annotated[str, Field(min_length=1)]] | None = None
    pattern: str | None = None
    condition: str | None = None
    description: str | None = None


class RouterOptions(OptionsModel):
    """Chooses an intent."""

    strategy: Literal["keyword", "pattern", "rules", "llm", "classifier", "default"] | None = None
    routes: list[Route] = []
    input_key: Annotated[str, Field(min_length=1)] = "user_input"
    output_key: Annotated[str, Field(min_length=1)] = "intent"
    source: str | None = None
    prompt: str | None = None
    model: str | None = None
    plugin: str | None = None
    default_intent: str = "unknown"
    fallback: Literal["keyword", "default", "fail"] = "default"


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
    return (f"router strategy {chosen!r}",) if chosen in ("llm", "classifier") else ()


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
)
