"""Values made of what JSON knows, and of nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

Json = Any

SMALL = 64
"""Values up to which one is copied part by part; beyond that it is quicker to encode and decode it."""
_INTEGERS = 2**63


class _NotSo(Exception):
    """Not small, or not certainly plain."""


def plain(value: Json) -> Json:
    """A copy of a value, made of what JSON knows. Raises ValueError: NaN, dates, text that is not
    Unicode, values that hold themselves or nest too deeply."""
    try:
        copy, _ = _copied(value, SMALL)
        return copy
    except (_NotSo, UnicodeEncodeError):
        pass
    try:
        copy = msgspec.json.decode(msgspec.json.encode(value))
        if copy == value:  # what is not JSON differs from what it becomes there
            return copy
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass  # the error of the check that follows says more
    try:
        json.dumps(value, allow_nan=False)
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _copied(value: Json, room: int) -> tuple[Json, int]:
    """A copy, and for how many more values there is room. A text, however long it is, is not copied.

    Raises _NotSo, UnicodeEncodeError.
    """
    room -= 1
    if room < 0:
        raise _NotSo
    kind = type(value)
    if kind is str:
        if not value.isascii():
            value.encode()
    elif kind is dict:
        copy = {}
        for key, child in value.items():
            if type(key) is not str or not (key.isascii() or key.encode()):
                raise _NotSo
            copy[key], room = _copied(child, room)
        value = copy
    elif kind is list:
        copies = []
        for child in value:
            copied, room = _copied(child, room)
            copies.append(copied)
        value = copies
    elif kind is float:
        if not math.isfinite(value):
            raise _NotSo
    elif kind is int:
        if not -_INTEGERS <= value < _INTEGERS:
            raise _NotSo
    elif kind is not bool and value is not None:
        raise _NotSo
    return value, room
