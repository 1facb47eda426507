"""Whether a request has the shape that a provider's SDK declares, with nothing it does not know.

The SDKs declare requests as typed dictionaries, which nothing checks at run time; here every key,
every literal and every required field is.
"""

from __future__ import annotations

import collections.abc
import types
from functools import lru_cache
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from typing_extensions import get_type_hints, is_typeddict

Json = Any


def faults(shape: Any, value: Json, at: str = "body") -> list[str]:
    """What of a value does not fit the shape, as sentences; none when it fits."""
    origin, arguments = get_origin(shape), get_args(shape)
    if origin in (Annotated, Required, NotRequired):
        return faults(arguments[0], value, at)
    if is_typeddict(shape):
        return _of_fields(shape, value, at)
    if origin in (Union, types.UnionType):
        found = [faults(choice, value, at) for choice in arguments]
        return min(found, key=len) if all(found) else []
    if origin is Literal:
        return [] if value in arguments else [f"{at}: {value!r} is none of {arguments}"]
    if origin in (list, collections.abc.Iterable) or "SequenceNotStr" in str(origin or shape):
        if not isinstance(value, list):
            return [f"{at}: expected a list"]
        return [
            fault
            for index, item in enumerate(value)
            for fault in faults(arguments[0], item, f"{at}[{index}]")
        ]
    if origin in (dict, collections.abc.Mapping):
        return [] if isinstance(value, dict) else [f"{at}: expected an object"]
    if hasattr(shape, "model_fields"):
        return [f"{at}: expected {shape.__name__}, which no request over a wire can hold"]
    if shape in (str, int, float, bool, type(None)):
        return [] if _is(shape, value) else [f"{at}: expected {shape.__name__}, not {value!r}"]
    return []


def _is(shape: Any, value: Json) -> bool:
    if shape is float:
        return type(value) in (int, float)
    return type(value) is shape


def _of_fields(shape: Any, value: Json, at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: expected an object"]
    hints = _hints(shape)
    found = [f"{at}: unknown field {key!r}" for key in value if key not in hints]
    # What is marked in an annotation that is a text is not among the class's own required keys.
    marked = {key for key, hint in hints.items() if get_origin(hint) is Required}
    required = marked | set(shape.__required_keys__)
    found += [f"{at}: {key!r} is missing" for key in sorted(required) if key not in value]
    for key, item in value.items():
        if key in hints:
            found += faults(hints[key], item, f"{at}.{key}")
    return found


@lru_cache(maxsize=512)
def _hints(shape: Any) -> dict[str, Any]:
    return get_type_hints(shape, include_extras=True)


def unknown_in(model: Any, at: str = "answer") -> list[str]:
    """Fields of an SDK's response model that the SDK does not know: they were put there by us."""
    found = []
    if isinstance(model, list):
        for index, item in enumerate(model):
            found += unknown_in(item, f"{at}[{index}]")
    elif hasattr(model, "model_extra"):
        found += [f"{at}: unknown field {key!r}" for key in model.model_extra or ()]
        for key in type(model).model_fields:
            found += unknown_in(getattr(model, key), f"{at}.{key}")
    return found
