"""``router`` nodes: choose an intent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from agentflow.errors import NotSupported
from agentflow.nodes.base import StepContext, StepResult
from agentflow.nodes.names import declared_names
from agentflow.spec.expressions import compile_expression
from agentflow.spec.kinds.router import strategy, text_rule
from agentflow.spec.patterns import compile_pattern
from agentflow.spec.templates import compact, look_up, split_path

Json = Any
Route = Mapping[str, Json]

_IMAGE = (
    "image images picture pictures photo photos photograph drawing draw painting paint sketch "
    "illustration illustrate render logo portrait wallpaper"
)
_DATABASE = (
    "database databases data sql query queries table tables record records row rows select "
    "dataset datasets"
)


class RouterNode:
    """Looks at a text and names the intent of the first route that matches it."""

    def run_inline(self, context: StepContext) -> StepResult:
        """``{intent, matched, strategy}``; ``matched`` is false when the default was taken.

        Raises NotSupported, ConditionError.
        """
        options = context.options
        chosen = strategy(options)
        value = look_up(context.view, split_path(options["input_key"]))
        text = "" if value is None else value if isinstance(value, str) else compact(value)
        if chosen == "default":
            intent, matched = _built_in(text)
        elif chosen in _STRATEGIES:
            matches = _STRATEGIES[chosen]
            routes = options.get("routes") or ()
            found = next((route for route in routes if matches(route, text, context)), None)
            matched = found is not None
            intent = options["default_intent"] if found is None else found["intent"]
        else:
            raise NotSupported(f"Routers with the strategy {chosen!r} cannot be executed yet")
        result = {"intent": intent, "matched": matched, "strategy": chosen}
        return StepResult(result=result, delta={options["output_key"]: intent})


def _keyword(route: Route, text: str, context: StepContext) -> bool:
    words = _whole_words(tuple(route.get("keywords") or ()))
    return words.search(text.casefold()) is not None


def _pattern(route: Route, text: str, context: StepContext) -> bool:
    return compile_pattern(route["pattern"], ignore_case=True).found_in(text)


def _rules(route: Route, text: str, context: StepContext) -> bool:
    condition = route["condition"]
    rule = text_rule(condition)
    if rule is None:
        return compile_expression(condition, declared_names(context)).test(context.view)
    name, argument = rule
    return _TEXT_RULES[name](text, argument)


_STRATEGIES: dict[str, Callable[[Route, str, StepContext], bool]] = {
    "keyword": _keyword,
    "pattern": _pattern,
    "rules": _rules,
}

_TEXT_RULES: dict[str, Callable[[str, Any], bool]] = {
    "contains": lambda text, part: part.casefold() in text.casefold(),
    "starts_with": lambda text, part: text.casefold().startswith(part.casefold()),
    "ends_with": lambda text, part: text.casefold().endswith(part.casefold()),
    "equals": lambda text, part: text.casefold() == part.casefold(),
    "length_gt": lambda text, length: len(text) > length,
    "length_lt": lambda text, length: len(text) < length,
}
"""Text rules ignore case, as keywords do; CEL is there for those who care."""


@lru_cache(maxsize=2048)
def _whole_words(keywords: tuple[str, ...]) -> re.Pattern[str]:
    """Matches any of these words or phrases, whole, in text that is case-folded."""
    phrases = (r"\s+".join(map(re.escape, word.casefold().split())) for word in keywords)
    joined = "|".join(phrase for phrase in phrases if phrase)
    return re.compile(rf"(?<!\w)(?:{joined})(?!\w)" if joined else r"(?!)")


def _built_in(text: str) -> tuple[str, bool]:
    """The built-in classes: image, database, else text."""
    folded = text.casefold()
    if folded.lstrip().startswith("img:") or _whole_words(tuple(_IMAGE.split())).search(folded):
        return "image", True
    if _whole_words(tuple(_DATABASE.split())).search(folded):
        return "database", True
    return "text", False
