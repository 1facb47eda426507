"""JSON as others write it, made values that can be kept: no lone surrogates, no number out of range."""

from __future__ import annotations

import json
import math
from typing import Any

from agentflow.sources.text import well_formed

Json = Any
_INT64 = 2**63


def read_json(text: str) -> Json:
    """The value of a JSON text. Whole numbers beyond 64 bits become the nearest float, as most readers of
    JSON do. Raises ValueError, which says what is wrong, and RecursionError."""
    value = json.loads(text, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite)
    return _clean(value) if "\\ud" in text or "\\uD" in text else value


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int | float:
    number = int(digits) if len(digits) < 25 else _INT64
    return number if -_INT64 <= number < _INT64 else _finite(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number that is too large")
    return number


def _clean(value: Json) -> Json:
    """The value with lone halves of surrogate pairs replaced."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {well_formed(key): _clean(item) for key, item in value.items()}
    return value
