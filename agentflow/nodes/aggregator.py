"""``aggregator`` nodes: join the results of several steps into one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from agentflow.errors import InvalidInput
from agentflow.nodes.base import StepContext, StepResult
from agentflow.nodes.names import declared_names
from agentflow.spec.expressions import compile_expression
from agentflow.spec.kinds.aggregator import META_FIELDS, is_path
from agentflow.spec.state import BUILTIN
from agentflow.spec.templates import compact, look_up, paths, render, split_path

Json = Any
Found = list[tuple[str, Json]]
_log = logging.getLogger(__name__)

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
    names = [_SHORT.get(".".join(_path(key))) or _path(key)[-1] for key, _ in found]
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
    missing: list[str] = []
    text = render(context.options["template"], context.view, missing)
    for name in missing:
        _log.warning("Node %r: the template names {%s}, which is absent", context.node.id, name)
    return text


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
    """The value that most sources gave; of equals, the one that came first in canonical order."""
    values = [value for _, value in _canonical(context, context.options["source_keys"])]
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


def _canonical(context: StepContext, keys: Sequence[str]) -> Found:
    """What is there, in canonical order where all keys name results of nodes, else as listed."""
    found = _present(context, keys)
    order = list(context.view.get("outputs") or ())
    if all(_path(key)[0] == "outputs" and len(_path(key)) > 1 for key, _ in found):
        found.sort(key=lambda item: order.index(_path(item[0])[1]))
    return found


def _path(key: str) -> tuple[str, ...]:
    path = split_path(key)
    return path[1:] if path[:1] == ("state",) else path


def _is_present(context: StepContext, key: str) -> bool:
    """Whether a step or the caller gave this value: a field that holds its default is missing."""
    path = _path(key)
    value = look_up(context.view, path)
    if not path or value is None:
        return False
    if len(path) > 1:
        return True
    field = context.fields.get(path[0]) or BUILTIN.get(path[0])
    return field is None or value != field.default


def _long_name(key: str) -> str:
    path = _path(key)
    return ".".join(path[1:] if path[0] == "outputs" else path)


def _asked_for(context: StepContext) -> Sequence[str]:
    """The paths that the strategy looks at, as far as they are written out."""
    options = context.options
    chosen = options["strategy"]
    if chosen == "template":
        return list(dict.fromkeys(".".join(found.path) for found in paths(options["template"])))
    if chosen == "select":
        return [options["select_key"]] if is_path(options["select_key"]) else []
    if chosen == "custom":
        return []
    return tuple(options["priority_order" if chosen == "priority" else "source_keys"])


def _with_metadata(context: StepContext, value: Json) -> Json:
    meta = {name: context.view.get(name) for name in META_FIELDS}
    meta["missing"] = [key for key in _asked_for(context) if not _is_present(context, key)]
    return {**(value if isinstance(value, dict) else {"result": value}), "_meta": meta}
