"""JSONPath (RFC 9535) over values: the parts that an author asks for."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from agentflow.errors import InvalidInput
from agentflow.spec.patterns import PatternError, compile_pattern

Json = Any


def extracted(value: Json, path: str) -> Json:
    """What a path finds: one value or null for a path that names one place, else a list.

    Raises InvalidInput.
    """
    import jsonpath

    query, single = _compiled(path)
    try:
        found = query.findall(value)
    except jsonpath.JSONPathError as error:
        raise InvalidInput(f"The JSONPath {path[:100]!r} failed: {_first_line(error)}") from None
    if single:
        return found[0] if found else None
    return list(found)


@lru_cache(maxsize=1024)
def _compiled(path: str) -> tuple[Any, bool]:
    import jsonpath

    try:
        query = _environment().compile(path)
    except (jsonpath.JSONPathError, RecursionError) as error:
        raise InvalidInput(
            f"{path[:100]!r} is not a JSONPath of RFC 9535: {_first_line(error)}"
        ) from None
    return query, bool(getattr(query, "singular_query", lambda: False)())


@cache
def _environment() -> Any:
    """The standard's language, with patterns that take linear time."""
    import jsonpath
    from jsonpath.function_extensions import ExpressionType, FilterFunction

    class Matches(FilterFunction):
        """The functions ``match`` and ``search``."""

        arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]
        return_type = ExpressionType.LOGICAL

        def __init__(self, *, whole: bool) -> None:
            self._whole = whole

        def __call__(self, value: object, pattern: object) -> bool:
            return _fits(value, pattern, whole=self._whole)

    environment = jsonpath.JSONPathEnvironment(strict=True)
    environment.function_extensions["match"] = Matches(whole=True)
    environment.function_extensions["search"] = Matches(whole=False)
    return environment


def _fits(value: object, pattern: object, *, whole: bool) -> bool:
    if not isinstance(value, str) or not isinstance(pattern, str):
        return False
    try:
        compiled = compile_pattern(pattern)
    except PatternError:
        return False
    return compiled.matches(value) if whole else compiled.found_in(value)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
