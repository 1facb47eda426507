"""What a compiled CEL expression refers to, read from its serialised syntax tree.

The tree comes as a protocol-buffer message (``cel.expr.CheckedExpr``); only the few fields needed are
decoded here, so that no protocol-buffer library is.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

_CHECKED_EXPR, _SOURCE_INFO, _POSITIONS = 4, 5, 4
_ID, _CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 2, 3, 4, 5, 6, 7, 8, 9


class Reference(msgspec.Struct, frozen=True):
    """A path from a declared name (``outputs``, ``search``, ``text``) and its character offset.

    The path ends where a segment is computed at run time; ``open`` says that it does.
    """

    path: tuple[str, ...]
    offset: int = 0
    open: bool = False


class _Message:
    """The fields of one message: number -> values, in order (ints for varints, bytes for the rest)."""

    def __init__(self, data: bytes) -> None:
        self.fields: dict[int, list[int | bytes]] = {}
        at = 0
        while at < len(data):
            tag, at = _varint(data, at)
            number, wire = tag >> 3, tag & 7
            value: int | bytes
            if wire == 0:
                value, at = _varint(data, at)
            elif wire == 1:
                value, at = data[at : at + 8], at + 8
            elif wire == 5:
                value, at = data[at : at + 4], at + 4
            else:
                size, at = _varint(data, at)
                value, at = data[at : at + size], at + size
            self.fields.setdefault(number, []).append(value)

    def messages(self, number: int) -> list[_Message]:
        return [_Message(item) for item in self.fields.get(number, ()) if isinstance(item, bytes)]

    def message(self, number: int) -> _Message | None:
        found = self.messages(number)
        return found[-1] if found else None

    def integer(self, number: int) -> int:
        value = self.fields.get(number, [0])[-1]
        return value if isinstance(value, int) else 0

    def text(self, number: int) -> str:
        value = self.fields.get(number, [b""])[-1]
        return value.decode() if isinstance(value, bytes) else ""

    def has(self, number: int) -> bool:
        return number in self.fields


def references(serialized: bytes, declared: frozenset[str]) -> tuple[Reference, ...]:
    """What a serialised expression refers to, without duplicates, in order of position."""
    checked = _Message(serialized).message(2) or _Message(b"")
    tree, info = checked.message(_CHECKED_EXPR), checked.message(_SOURCE_INFO)
    if tree is None:
        return ()
    positions = {p.integer(1): p.integer(2) for p in (info.messages(_POSITIONS) if info else ())}
    found: dict[tuple[tuple[str, ...], bool], Reference] = {}
    for path, node, partial in _walk(tree, frozenset()):
        if path[0] in declared:
            at = positions.get(_root(node).integer(_ID), 0)
            found.setdefault((path, partial), Reference(path, at, partial))
    return tuple(sorted(found.values(), key=lambda reference: reference.offset))


def _walk(
    node: _Message, bound: frozenset[str]
) -> Iterator[tuple[tuple[str, ...], _Message, bool]]:
    path = _path(node, bound)
    if path:
        yield path, node, False
    elif select := node.message(_SELECT):
        yield from _walk(select.message(1) or _Message(b""), bound)
    elif call := node.message(_CALL):
        yield from _walk_call(call, bound)
    elif comprehension := node.message(_COMPREHENSION):
        yield from _walk_comprehension(comprehension, bound)
    elif items := node.message(_LIST):
        for item in items.messages(1):
            yield from _walk(item, bound)
    elif struct := node.message(_STRUCT):
        for entry in struct.messages(2):
            for part in (*entry.messages(3), *entry.messages(4)):
                yield from _walk(part, bound)


def _walk_call(
    call: _Message, bound: frozenset[str]
) -> Iterator[tuple[tuple[str, ...], _Message, bool]]:
    operands = [*call.messages(1), *call.messages(3)]
    for position, operand in enumerate(operands):
        indexed = call.text(2) == "_[_]" and position == 0
        path = _path(operand, bound)
        if path:
            yield path, operand, indexed
        else:
            yield from _walk(operand, bound)


def _walk_comprehension(
    loop: _Message, bound: frozenset[str]
) -> Iterator[tuple[tuple[str, ...], _Message, bool]]:
    inner = bound | {loop.text(1), loop.text(3), loop.text(8)} - {""}
    for part, names in ((2, bound), (4, bound), (5, inner), (6, inner), (7, inner)):
        for child in loop.messages(part):
            yield from _walk(child, names)


def _path(node: _Message, bound: frozenset[str]) -> tuple[str, ...]:
    """The constant path that a tree stands for, or an empty one."""
    if ident := node.message(_IDENT):
        name = ident.text(1).removeprefix(".")
        return () if name in bound else (name,)
    if select := node.message(_SELECT):
        operand = select.message(1)
        before = _path(operand, bound) if operand else ()
        return (*before, select.text(2)) if before else ()
    call = node.message(_CALL)
    if call is not None and call.text(2) == "_[_]":
        operands = call.messages(3)
        constant = operands[1].message(_CONST) if len(operands) == 2 else None
        before = _path(operands[0], bound) if constant is not None and constant.has(6) else ()
        if before and constant is not None:
            return (*before, constant.text(6))
    return ()


def _root(node: _Message) -> _Message:
    """The identifier that a path starts from."""
    while True:
        select, call = node.message(_SELECT), node.message(_CALL)
        inner = select.message(1) if select else call.messages(3)[0] if call else None
        if inner is None:
            return node
        node = inner


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
