"""From text to JSON, strictly; and where in the text a place of the document is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import msgspec

from agentflow.errors import SpecInvalid
from agentflow.spec.problems import Part, Parts, Problem, pointer, problem

Json = Any
MAX_BYTES = 5_000_000
MAX_NESTING = 64

_TOKEN_BYTES = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(text: bytes | str, *, max_bytes: int = MAX_BYTES, max_nesting: int = MAX_NESTING) -> Json:
    """The JSON value of a text.

    Raises SpecInvalid with one problem: E026 when it is larger than 5 MB or nested deeper than 64
    (or the limits given), else E001, with line and column, when it is not JSON (RFC 8259) or holds
    NaN, Infinity, a number out of range, a lone surrogate or a key twice.
    """
    raw = text.encode(errors="surrogatepass") if isinstance(text, str) else bytes(text)
    if len(raw) > max_bytes:
        _refuse("E026", f"The document is {len(raw):,} bytes; the limit is {max_bytes:,} (5 MB)")
    _measure(raw, max_nesting)
    try:
        decoded = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = len(raw) - len(error.object) + error.start  # it does not count a byte order mark
        line, column = _byte_line(raw, start)
        if isinstance(text, str):
            _refuse("E001", "The text holds a lone surrogate, which is no character", line, column)
        what = f"The document is not UTF-8: invalid byte at offset {start}"
        _refuse("E001", what, line, column)
    try:
        value = json.loads(
            decoded,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
            object_pairs_hook=_pairs,
        )
    except _Refused as refused:
        line, column = _line(decoded, refused.find(decoded))
        _refuse("E001", str(refused), line, column)
    except json.JSONDecodeError as error:
        message = f"Not valid JSON: {error.msg[0].lower()}{error.msg[1:]}"
        _refuse("E001", message, error.lineno, error.colno)
    unfit = unfit_value(value) if _SURROGATE_ESCAPE.search(raw) else None
    if unfit is not None:
        line, column = locate(decoded, [unfit[0]])[pointer(unfit[0])]
        _refuse("E001", unfit[1], line, column, unfit[0])
    return value


def unfit_value(document: Json) -> tuple[Parts, str] | None:
    """The first place that no JSON text could have: a lone surrogate, NaN, or another type."""
    stack: list[tuple[Parts, Json]] = [((), document)]
    while stack:
        at, value = stack.pop()
        if isinstance(value, str):
            if _SURROGATE.search(value):
                return at, "The text holds a lone surrogate, which is no character"
        elif isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    return at, "The keys of an object must be text"
                if not key.isascii() and _SURROGATE.search(key):
                    return at, "A key holds a lone surrogate, which is no character"
                if not _is_ascii(item):
                    stack.append(((*at, key), item))
        elif isinstance(value, list):
            parts = enumerate(value)
            stack += [((*at, index), item) for index, item in parts if not _is_ascii(item)]
        elif isinstance(value, float):
            if not math.isfinite(value):
                return at, "NaN and Infinity are not JSON numbers"
        elif isinstance(value, int):
            if not -(2**63) <= value < 2**64:
                return at, "Whole numbers must fit in 64 bits"
        elif value is not None:
            return at, f"A {type(value).__name__} is not a JSON value"
    return None


def _is_ascii(value: Json) -> bool:
    return isinstance(value, str) and value.isascii()


def nesting(document: Json) -> int:
    """How deep objects and lists are nested; stops counting soon after the limit."""
    level, depth = [document], 0
    while level and depth <= MAX_NESTING:
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in ((*value.values(), None) if isinstance(value, dict) else (*value, None))
        ]
        depth += 1 if level else 0
    return depth


def locate(text: str, places: Iterable[Parts]) -> dict[str, tuple[int, int]]:
    """Pointer -> (line, column) of each place's value in a JSON text, counted from 1.

    A place that does not exist gets the position of the nearest one around it. The text must be JSON.
    """
    wanted = [tuple(str(part) for part in place) for place in places]
    needed = {place[:length] for place in wanted for length in range(len(place) + 1)}
    offsets: dict[tuple[str, ...], int] = {}
    for place_of_value, offset in _values(text):
        at = tuple(str(part) for part in place_of_value)
        if at in needed and at not in offsets:
            offsets[at] = offset
            if len(offsets) == len(needed):
                break
    found: dict[str, tuple[int, int]] = {}
    for place in wanted:
        for length in range(len(place), -1, -1):
            if place[:length] in offsets:
                found[pointer(place)] = _line(text, offsets[place[:length]])
                break
    return found


def with_positions(problems: Iterable[Problem], text: str | None) -> list[Problem]:
    """The problems with line and column filled in from the text they were found in."""
    listed = list(problems)
    if text is None or not listed:
        return listed
    places = {found.path: _parts(found.path) for found in listed}
    lines = locate(text, places.values())
    located = []
    for found in listed:
        position = lines.get(pointer(places[found.path]))
        if position is not None:
            found = msgspec.structs.replace(found, line=position[0], column=position[1])
        located.append(found)
    return located


class _Refused(ValueError):
    """Something that the json module would let through. ``token``: how the text spells it."""

    def __init__(self, message: str, token: str, key: bool = False) -> None:
        self.token = token
        self.key = key
        super().__init__(message)

    def find(self, text: str) -> int:
        """The character offset of the offending token (of a repeated key: its second use)."""
        if not self.key:
            return next((m.start() for m in _TOKEN.finditer(text) if m[0] == self.token), 0)
        seen: list[set[str]] = []
        previous = ""
        for found in _TOKEN.finditer(text):
            token = found[0]
            if token == "{" or token == "[":
                seen.append(set())
            elif token in "}]" and seen:
                seen.pop()
            elif token.startswith('"') and previous in ("{", ",") and seen:
                rest = text[found.end() : found.end() + 64].lstrip()
                if rest.startswith(":"):
                    key = json.loads(token, strict=False)
                    if key in seen[-1] and key == self.token:
                        return found.start()
                    seen[-1].add(key)
            previous = token
        return 0


def _refuse(
    code: str, message: str, line: int | None = None, column: int | None = None, at: Parts = ()
) -> NoReturn:
    found = problem(code, message, at)
    raise SpecInvalid([msgspec.structs.replace(found, line=line, column=column)])


def _measure(raw: bytes, limit: int) -> None:
    """Refuse deep nesting before anything recursive sees the text."""
    if raw.count(b"{") + raw.count(b"[") <= limit:
        return
    depth = 0
    for found in _TOKEN_BYTES.finditer(raw):
        token = found[0]
        if token in (b"{", b"["):
            depth += 1
            if depth > limit:
                what = f"The document is nested deeper than {limit} levels"
                _refuse("E026", what, *_byte_line(raw, found.start()))
        elif token in (b"}", b"]"):
            depth -= 1


def _constant(token: str) -> NoReturn:
    raise _Refused(f"{token} is not a JSON number", token)


def _integer(token: str) -> int:
    if len(token) > 20 or not -(2**63) <= int(token) < 2**64:
        raise _Refused("A whole number does not fit in 64 bits", token)
    return int(token)


def _float(token: str) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise _Refused("A number is too large for a 64-bit floating-point number", token)
    return value


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                shown = key.encode(errors="replace").decode()[:80]
                raise _Refused(f"The key {shown!r} appears twice in one object", key, key=True)
            seen.add(key)
    return found


def _values(text: str) -> Iterator[tuple[Parts, int]]:
    """Every value of a JSON text: its place and its character offset, in order of appearance."""
    path: list[Part] = []
    containers: list[str] = []
    expect_key = False
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token == ",":
            if containers and containers[-1] == "[":
                path[-1] = int(path[-1]) + 1
            else:
                expect_key = True
        elif token in ("}", "]"):
            if containers:
                containers.pop()
                path.pop()
            expect_key = False
        elif token == ":":
            continue
        elif expect_key:
            path[-1] = json.loads(token, strict=False)
            expect_key = False
        else:
            yield tuple(path), found.start()
            if token in ("{", "["):
                containers.append(token)
                path.append("" if token == "{" else 0)
                expect_key = token == "{"


def _line(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _byte_line(raw: bytes, offset: int) -> tuple[int, int]:
    before = raw[raw.rfind(b"\n", 0, offset) + 1 : offset].decode("utf-8-sig", "replace")
    return raw.count(b"\n", 0, offset) + 1, len(before) + 1


def _parts(path: str) -> Parts:
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:])
