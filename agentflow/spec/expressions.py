"""CEL, the language of conditions and values, behind one door.

A text is compiled once against the declared names and their types, and evaluated many times, in
microseconds, under a cost limit. Field types are those of the spec: string, int, number, bool, list,
object, any. JSON has one kind of number, so a ``number`` compares with whole numbers as well.
"""

from __future__ import annotations

import base64
import datetime
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from agentflow.errors import ConditionError, ExpressionError, StepError
from agentflow.spec.celtree import Reference, references

Json = Any
MAX_LENGTH = 20_000
"""The longest expression, in characters."""

_RESULTS = {"BOOL": "bool", "INT": "int", "UINT": "int", "DOUBLE": "number", "STRING": "string"}
_AT = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*?)(?:\n \||\Z| \[[A-Z_]+\]\Z)", re.S)
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")


class ExpressionInvalid(ValueError):
    """The text is not an expression over the declared names.

    ``offset`` counts characters from 0; ``undeclared`` is the unknown name when that is the reason.
    """

    def __init__(self, message: str, offset: int = 0, undeclared: str | None = None) -> None:
        self.message = message
        self.offset = offset
        self.undeclared = undeclared
        super().__init__(message)


class Expression:
    """A compiled expression. ``returns``: bool, int, number, string, list, object or any."""

    def __init__(self, text: str, declared: Mapping[str, str], program: Any) -> None:
        self.text = text
        self.returns = _kind(program.return_type().name())
        self._declared = dict(declared)
        self._program = program
        self._references = references(program.serialize(), frozenset(declared))
        self._roots = tuple(dict.fromkeys(found.path[0] for found in self._references))

    def names(self) -> tuple[Reference, ...]:
        """What the expression refers to: paths from a declared name, as far as they are constant."""
        return self._references

    def evaluate(
        self, values: Mapping[str, Json], error: type[StepError] = ExpressionError
    ) -> Json:
        """The expression's value as JSON.

        A declared name without a value is null. Raises ``error`` when the evaluation fails or its
        result has no JSON form.
        """
        try:
            bound = self._bind(values)
        except ValueError as failure:
            raise error(f"The expression {_short(self.text)} failed: {failure}") from None
        program = self._program
        misfits = [n for n, v in bound.items() if not _fits(self._declared[n], v)]
        if misfits:
            program = _loosened(self.text, self._declared, misfits)
        try:
            result = program.eval(data=bound)
            value = result.plain_value()
            failed = result.type().name() == "ERROR"
        except (RuntimeError, TypeError, ValueError) as failure:
            raise error(f"The expression {_short(self.text)} failed: {_reason(failure)}") from None
        if failed:
            raise error(f"The expression {_short(self.text)} failed: {_reason(value)}")
        try:
            return _to_json(value)
        except ValueError as failure:
            raise error(f"The expression {_short(self.text)} gave {failure}") from None

    def test(self, values: Mapping[str, Json]) -> bool:
        """The truth of a condition. Raises ConditionError, also when the value is not a boolean."""
        value = self.evaluate(values, ConditionError)
        if not isinstance(value, bool):
            raise ConditionError(
                f"The condition {_short(self.text)} gave {_named(value)}, not true or false"
            )
        return value

    def _bind(self, values: Mapping[str, Json]) -> dict[str, Json]:
        bound: dict[str, Json] = {}
        for name in self._roots:
            if name == "state" and "state" not in values:
                bound[name] = _plain({k: values[k] for k in values if k not in _NOT_STATE})
                continue
            value = values.get(name)
            if name == "outputs" and value is None:
                value = {}
            if isinstance(value, float) and self._declared[name] == "int" and value.is_integer():
                value = int(value)
            bound[name] = _plain(value)
        return bound


_NOT_STATE = ("execution", "result", "error", "item", "index")


_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LITERALS = ("true", "false", "null")


def is_bare_name(text: str) -> bool:
    """Whether a condition is a bare field name rather than an expression."""
    return _IDENTIFIER.fullmatch(text) is not None and text not in _LITERALS


def compile_expression(text: str, declared: Mapping[str, str]) -> Expression:
    """The compiled expression; compiled texts are kept. ``declared``: name -> field type.

    Raises ExpressionInvalid.
    """
    return _compile(text, tuple((n, declared[n]) for n in _identifiers(text) if n in declared))


@lru_cache(maxsize=4096)
def _identifiers(text: str) -> tuple[str, ...]:
    """The words of a text that may be names: only these need a declaration."""
    return tuple(sorted(set(_IDENTIFIER.findall(text))))


@lru_cache(maxsize=4096)
def _compile(text: str, declared: tuple[tuple[str, str], ...]) -> Expression:
    if len(text) > MAX_LENGTH:
        raise ExpressionInvalid(f"longer than {MAX_LENGTH} characters")
    return Expression(text, dict(declared), _program(text, declared))


def _program(text: str, declared: tuple[tuple[str, str], ...]) -> Any:
    try:
        return _environment(declared).compile(text)
    except (RuntimeError, TypeError, ValueError, UnicodeError) as failure:
        raise _invalid(text, str(failure)) from None


@lru_cache(maxsize=256)
def _environment(declared: tuple[tuple[str, str], ...]) -> Any:
    from cel_expr_python import cel

    dyn = cel.Type.DYN
    types = {
        "string": cel.Type.STRING,
        "int": cel.Type.INT,
        "bool": cel.Type.BOOL,
        "list": cel.Type.List(dyn),
        "object": cel.Type.Map(cel.Type.STRING, dyn),
    }
    return cel.NewEnv(variables={name: types.get(kind, dyn) for name, kind in declared})


def _loosened(text: str, declared: Mapping[str, str], misfits: list[str]) -> Any:
    """The program for values that are not of their declared type, such as a null."""
    loose = {**declared, **dict.fromkeys(misfits, "any")}
    return _compile(text, tuple(sorted(loose.items())))._program


def _invalid(text: str, message: str) -> ExpressionInvalid:
    found = _AT.search(message)
    if found is None:
        return ExpressionInvalid(_reason(message))
    lines = text.split("\n")
    line = min(int(found[1]), len(lines))
    offset = sum(len(before) + 1 for before in lines[: line - 1]) + int(found[2]) - 1
    reason = found[3].replace(" (in container '')", "").removeprefix("Syntax error: ")
    reason = re.sub(r" expecting \{.*", "", reason, flags=re.S)
    reason = reason.replace("mismatched input '<EOF>'", "the text ends too early")
    undeclared = _UNDECLARED.search(reason)
    return ExpressionInvalid(
        reason, max(0, min(offset, len(text))), undeclared[1] if undeclared else None
    )


def _reason(failure: object) -> str:
    text = _STATUS.sub("", _STATUS.sub("", str(failure).split("\n")[0]))
    text = text.removeprefix("<input>:-1:-1: ")
    if "incompatible function arguments" in text:
        return "the text is not valid Unicode"
    return text.replace("int64", "int").strip()[:500] or "unknown reason"


def _kind(name: str) -> str:
    if name.startswith(("LIST", "list")):
        return "list"
    if name.startswith(("MAP", "map")):
        return "object"
    return _RESULTS.get(name, "any")


_PYTHON: Mapping[str, type] = {
    "string": str,
    "int": int,
    "bool": bool,
    "list": list,
    "object": dict,
}


def _fits(kind: str, value: Json) -> bool:
    expected = _PYTHON.get(kind)
    if expected is None:
        return True
    return isinstance(value, expected) and (kind != "int" or not isinstance(value, bool))


def _plain(value: Json) -> Json:
    """Dicts and lists only, as the library wants them; large integers become floats.

    Raises ValueError for text with a NUL character, which the library would cut off there.
    """
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("it reads text with a NUL character")
        return value
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return msgspec.to_builtins(value)


def _to_json(value: Any) -> Json:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number that JSON cannot hold")
        return value
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("an object whose keys are not text")
        # CEL's maps have no order: sorted, so that a text made of one is the same each time.
        return {key: _to_json(value[key]) for key in sorted(value)}
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    raise ValueError(f"a {type(value).__name__}, which JSON cannot hold")


def _named(value: Json) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "an object")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
