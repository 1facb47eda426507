"""References in place of large values: pure, bytes in and bytes out.

A value is kept as JSON. Where it is longer than LIMIT, each subtree above the limit is taken out of it (a
string; a list or an object once its own large children are out), and a marker stands in its place:
``{"$blob": {"sha256": ..., "size": ..., "media_type": ...}}`` between two bytes 0x01. JSON holds no such
byte, so nobody's own value can be taken for a marker, and content that holds markers begins with one, so
that plain content is never searched. What is taken out is kept in the same form and may hold markers too.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from agentflow.errors import StoreError

Json = Any

LIMIT = 65_536
"""Bytes, encoded: what is longer stands in no row."""
LONGEST = 5_000_000_000
"""Bytes of one blob."""
MEDIA_TYPE = "application/json"

MARK = b"\x01"
_MARKER = re.compile(b"\x01([^\x01]+)\x01")
_PER_CHARACTER = 6
"""Bytes that one character of a string takes at most."""
_DEEPEST = 16
"""Levels of a value that are searched; what lies deeper is taken out whole."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Reference(msgspec.Struct, frozen=True):
    """Names a blob: SHA-256 (hexadecimal) and size (bytes) of its content."""

    sha256: str
    size: int
    media_type: str = MEDIA_TYPE


class _Marker(msgspec.Struct, frozen=True, rename={"blob": "$blob"}):
    blob: Reference


_decode_marker = msgspec.json.Decoder(_Marker).decode


class Split(NamedTuple):
    """Content that fits a row, and what was taken out of it."""

    content: bytes
    blobs: dict[Reference, bytes]


class Unencoded:
    """A value that stands in a column as it is, since it holds a text that is too long for a row: text that
    is taken out need not be encoded with the rest, nor once more for each place that it stands in."""

    __slots__ = ("value",)

    def __init__(self, value: Json) -> None:
        self.value = value

    def __len__(self) -> int:
        """Bytes that it has at the least."""
        return LIMIT + 1


Texts = dict[int, tuple[str, Reference, bytes]]
"""Long texts that were encoded already, by their identity, which is theirs for as long as they are here."""


class _Taken(NamedTuple):
    """What is taken out of values, and where texts are known from."""

    blobs: dict[Reference, bytes]
    texts: Texts


def holds_marker(body: bytes) -> bool:
    """Whether something was taken out of these lines."""
    return MARK in body


def is_marked(content: bytes) -> bool:
    """Whether the content holds markers."""
    return content.startswith(MARK)


def split(content: bytes | Unencoded, texts: Texts | None = None) -> Split:
    """Take out of plain JSON what is too long for a row. ``texts``: those of former splits; it gains those
    of this one that came as they are. Raises StoreError above LONGEST, and what encoding raises."""
    if isinstance(content, Unencoded):
        taken = _Taken({}, {} if texts is None else texts)
        value = msgspec.to_builtins(content.value, str_keys=True)
    elif len(content) <= LIMIT:
        return Split(content, {})
    else:
        taken, value = _Taken({}, {}), _decode(content)
    return Split(_form(_without_large(value, taken, 0)), taken.blobs)


def split_lines(body: bytes, known: frozenset[str]) -> bytes:
    """Lines of JSON, each an object or an array, with references in place of those large values in them
    whose SHA-256 is known; the rest stays, however long it is."""
    taken = _Taken({}, {})
    lines = body.split(b"\n")
    for number, line in enumerate(lines):
        if len(line) > LIMIT:
            lines[number] = _encode(_without_large_children(_decode(line), taken, 0))
    return _put_back(b"\n".join(lines), taken.blobs, known)


def _put_back(content: bytes, blobs: Mapping[Reference, bytes], known: frozenset[str]) -> bytes:
    def stays_or_goes(found: re.Match[bytes]) -> bytes:
        reference = _reference(found)
        if reference.sha256 in known:
            return found[0]
        return _put_back(blobs[reference].removeprefix(MARK), blobs, known)

    return _MARKER.sub(stays_or_goes, content)


def _without_large(value: Json, taken: _Taken, depth: int) -> Json:
    """The value, or a marker in its place; what was taken out is added to ``taken``."""
    if not _is_large(value):
        return value
    if depth < _DEEPEST and not isinstance(value, str):
        value = _without_large_children(value, taken, depth)
        return _taken_out(value, taken) if _is_large(value) else value
    return _taken_out(value, taken)


def _is_large(value: Json) -> bool:
    """Whether it is longer than LIMIT, encoded."""
    if isinstance(value, str):
        most = len(value) * _PER_CHARACTER + 2
        return most > LIMIT and (holds_long_text(value) or len(_encode(value)) > LIMIT)
    if not isinstance(value, (dict, list, tuple)):
        return False
    return holds_long_text(value) or len(_encode(value)) > LIMIT


def holds_long_text(value: Json, levels: int = 3, width: int = sys.maxsize) -> bool:
    """Whether it is or holds, a few levels of objects down, a text that is too long by its characters
    alone: to encode it again at each level would cost more than all the rest. ``width``: fields of an
    object up to which it is looked into."""
    if isinstance(value, str):
        return len(value) + 2 > LIMIT
    if not isinstance(value, dict) or not levels or len(value) > width:
        return False
    for child in value.values():
        if type(child) is str:
            if len(child) + 2 > LIMIT:
                return True
        elif child and holds_long_text(child, levels - 1, width):
            return True
    return False


def _without_large_children(value: Json, taken: _Taken, depth: int) -> Json:
    if isinstance(value, dict):
        return {key: _without_large(child, taken, depth + 1) for key, child in value.items()}
    return [_without_large(child, taken, depth + 1) for child in value]


def _taken_out(value: Json, taken: _Taken) -> msgspec.Raw:
    known = taken.texts.get(id(value))
    if known is None:
        content = _form(value)
        if len(content) > LONGEST:
            raise StoreError(
                f"A value has {len(content)} bytes; {LONGEST} are the most: keep it elsewhere and pass "
                "its address"
            )
        known = value, Reference(hashlib.sha256(content).hexdigest(), len(content)), content
        if isinstance(value, str):
            taken.texts[id(value)] = known
    _, reference, content = known
    taken.blobs[reference] = content
    return msgspec.Raw(MARK + _encode(_Marker(reference)) + MARK)


def _form(tree: Json) -> bytes:
    """Content as it is kept, with or without markers."""
    content = _encode(tree)
    return MARK + content if MARK in content else content


def references(content: bytes) -> set[Reference]:
    """The blobs that the content itself names; those may name others. Raises StoreError where it cannot
    be read."""
    if not is_marked(content):
        return set()
    return {_reference(found) for found in _MARKER.finditer(content, 1)}


def _reference(found: re.Match[bytes]) -> Reference:
    try:
        return _decode_marker(found[1]).blob
    except msgspec.DecodeError as error:
        raise StoreError(f"A row holds a reference that cannot be read: {error}") from error


def join(content: bytes, blobs: Mapping[Reference, bytes]) -> bytes:
    """The plain JSON that was split; ``blobs`` holds everything that it names, and what that names."""
    if not is_marked(content):
        return content
    return _MARKER.sub(lambda found: join(blobs[_reference(found)], blobs), content[1:])
