"""``input`` nodes: take a value in, transform it, check it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agentflow.errors import InvalidInput
from agentflow.nodes.base import StepContext, StepResult
from agentflow.spec.jsonschema import compile_schema
from agentflow.spec.kinds.input import target
from agentflow.spec.patterns import compile_pattern
from agentflow.spec.templates import look_up, split_path

Json = Any

_TRANSFORMS: dict[str, Callable[[str], str]] = {
    "lowercase": str.lower,
    "uppercase": str.upper,
    "strip": str.strip,
    "trim": str.strip,
}


class InputNode:
    """Passes a state field on, changed and checked as the options say."""

    def run_inline(self, context: StepContext) -> StepResult:
        """The value as the result; written when it was transformed or renamed.

        Raises InvalidInput naming the rule that is not met.
        """
        options = context.options
        key = options["input_key"]
        value = look_up(context.view, split_path(key))
        transforms = options.get("transform") or ()
        names = (transforms,) if isinstance(transforms, str) else tuple(transforms)
        changed = _transformed(key, value, names)
        _check_rules(key, changed, options.get("validate") or {})
        _check_schema(key, changed, options.get("schema"))
        field = target(options)
        unchanged = changed == value and not options.get("output_key")
        return StepResult(
            result=changed, delta={} if unchanged or field is None else {field: changed}
        )


def _transformed(key: str, value: Json, names: tuple[str, ...]) -> Json:
    for name in names if value is not None else ():
        if not isinstance(value, str):
            raise InvalidInput(f"{key!r} must be text to be changed by {name!r}")
        value = _TRANSFORMS[name](value)
    return value


def _check_rules(key: str, value: Json, rules: Mapping[str, Json]) -> None:
    if value is None or value == "":
        if rules.get("required"):
            raise InvalidInput(f"{key!r} is required, but it is missing or empty")
        if value is None:
            return
    low, high, pattern = rules.get("min_length"), rules.get("max_length"), rules.get("pattern")
    if low is None and high is None and pattern is None:
        return
    if not isinstance(value, str):
        raise InvalidInput(f"{key!r} must be text")
    if low is not None and len(value) < low:
        raise InvalidInput(f"{key!r} has {len(value)} characters; min_length is {low}")
    if high is not None and len(value) > high:
        raise InvalidInput(f"{key!r} has {len(value)} characters; max_length is {high}")
    if pattern is not None and not compile_pattern(pattern).found_in(value):
        raise InvalidInput(f"{key!r} does not match the pattern {pattern!r}")


def _check_schema(key: str, value: Json, schema: Json) -> None:
    if schema is None:
        return
    problems = compile_schema(schema).problems(value, limit=3)
    if problems:
        raise InvalidInput(f"{key!r} does not fit its schema: {'; '.join(problems)}"[:1000])
