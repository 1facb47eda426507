"""``aggregator`` nodes: join the results of several steps into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from agentflow.errors import InvalidInput
from agentflow.nodes.base import StepContext, StepResult
from agentflow.nodes.names import declared_names
from agentflow.spec.expressions import compile_expression
from agentflow.spec.kinds.aggregator import META_FIELDS, is_path
from agentflow.spec.state import BUILTIN
from agentflow.spec.templates import compact, look_up, render, split_path

Json = Any
Found = list[tuple[str, Json]]

_SHORT = {"text_result": "text", "image_result": "image", "db_result": "data"}


class AggregatorNode:
    """Joins what is there; what is missing is left out unless it is required."""

    def run_inline(self, context: StepContext) -> StepResult:
        """The joined value, also written. Raises InvalidInput, ExpressionError."""
        options = context.options
        absent = [key for key in options["required"] if not _is_present(context, key)]
        if absent:
            raise InvalidInput(f"Required results are missing: {', '.join(absent)}")
        value = _STRATEGIES[options["strategy"]](context)
        if options["include_metadata"]:
            value = _with_metadata(context, value)
        return StepResult(result=value, delta={options["output_key"]: value})


def _merge(context: StepContext) -> Json:
    found = _present(context, context.options["source_keys"])
    names = [_SHORT.get(key) or split_path(key)[-1] for key, _ in found]
    often = Counter(names)
    return {
        name if often[name] == 1 else _long_name(key): value
        for name, (key, value) in zip(names, found)
    }


def _priority(context: StepContext) -> Json:
    order = context.options.get("priority_order") or context.options["source_keys"]
    found = _present(context, order)
    return found[0][1] if found else None


def _template(context: StepContext) -> Json:
    return render(context.options["template"], context.view)


def _concat(context: StepContext) -> Json:
    found = _present(context, context.options["source_keys"])
    texts = [value if isinstance(value, str) else compact(value) for _, value in found]
    return str(context.options["separator"]).join(texts)


def _select(context: StepContext) -> Json:
    key = context.options["select_key"]
    if is_path(key):
        return look_up(context.view, split_path(key))
    return compile_expression(key, declared_names(context)).evaluate(context.view)


def _custom(context: StepContext) -> Json:
    expression = compile_expression(context.options["expression"], declared_names(context))
    return expression.evaluate(context.view)


def _vote(context: StepContext) -> Json:
    """The value that most sources gave; of equals, the earlier one."""
    values = [value for _, value in _present(context, context.options["source_keys"])]
    ballots = [compact(value.strip() if isinstance(value, str) else value) for value in values]
    needed = context.options.get("min_votes") or len(ballots) // 2 + 1
    if not ballots:
        raise InvalidInput("There is nothing to vote on: no source key has a value")
    winner, votes = Counter(ballots).most_common(1)[0]
    if votes < needed:
        raise InvalidInput(
            f"No value has the {needed} votes it needs: the best has {votes} of {len(ballots)}"
        )
    return values[ballots.index(winner)]


_STRATEGIES: dict[str, Callable[[StepContext], Json]] = {
    "merge": _merge,
    "priority": _priority,
    "template": _template,
    "concat": _concat,
    "select": _select,
    "vote": _vote,
    "custom": _custom,
}


def _present(context: StepContext, keys: Sequence[str]) -> Found:
    return [
        (key, look_up(context.view, split_path(key))) for key in keys if _is_present(context, key)
    ]


def _is_present(context: StepContext, key: str) -> bool:
    """Whether a step or the caller gave this value: a field that holds its default is missing."""
    path = split_path(key)
    value = look_up(context.view, path)
    if value is None:
        return False
    if len(path) > 1:
        return True
    field = context.fields.get(path[0]) or BUILTIN.get(path[0])
    return field is None or value != field.default


def _long_name(key: str) -> str:
    return ".".join(part for part in split_path(key) if part != "outputs")


def _with_metadata(context: StepContext, value: Json) -> Json:
    keys = context.options["source_keys"]
    meta = {name: context.view.get(name) for name in META_FIELDS}
    meta["missing"] = [key for key in keys if not _is_present(context, key)]
    return {**(value if isinstance(value, dict) else {"result": value}), "_meta": meta}
