"""What is wrong with a spec: the Problem record, its codes, and JSON pointers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec

Part = str | int
Parts = tuple[Part, ...]

_TYPES = {
    "schema": "E001 E002 E003 E004 E015 E017 E024 E026",
    "referential": "E005 E006 E007 E008 E009 E010 E011 E014 E018 E020 W003 W004 W008 W009",
    "logic": "E012 E013 E016 E019 E021 E022 E023 E025 W001 W002 W005 W006 W007 W010 W011 W012 W013",
}
TYPE_OF = {code: kind for kind, codes in _TYPES.items() for code in codes.split()}
"""Problem code -> ``schema``, ``referential`` or ``logic``."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One error (E...) or warning (W...).

    ``path`` is a JSON pointer, ``field`` the same in readable form; ``node_id`` the id of the element
    at fault, or None; ``line`` and ``column`` count from 1 and are known when text was checked.
    """

    code: str
    type: str
    message: str
    path: str = ""
    field: str = ""
    node_id: str | None = None
    edge_index: int | None = None
    hint: str | None = None
    line: int | None = None
    column: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The wire form: ``node_id`` may be null, other absent members are left out."""
        optional = ("edge_index", "hint", "line", "column")
        return {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if value is not None or name not in optional
        }


def problem(
    code: str,
    message: str,
    at: Sequence[Part] = (),
    *,
    node_id: Any = None,
    edge_index: int | None = None,
    hint: str | None = None,
) -> Problem:
    """A problem at this place of the document."""
    return Problem(
        code=code,
        type=TYPE_OF[code],
        message=message,
        path=pointer(at),
        field=readable(at),
        node_id=node_id if isinstance(node_id, str) else None,
        edge_index=edge_index,
        hint=hint,
    )


def pointer(parts: Iterable[Part]) -> str:
    """The JSON pointer (RFC 6901) of a place."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def readable(parts: Iterable[Part]) -> str:
    """The same place as a person would write it: ``edges[0].to``."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def near(name: object, candidates: Iterable[str]) -> str | None:
    """A hint that offers the candidates most like ``name``, or None."""
    matches = get_close_matches(str(name)[:200], list(candidates)[:2000], n=3, cutoff=0.6)
    return (
        "Did you mean " + " or ".join(repr(match) for match in matches) + "?" if matches else None
    )


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 10


def order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems sorted by place, list positions by number."""

    def key(found: Problem) -> tuple[Any, ...]:
        parts = found.path.split("/")
        return (
            *((1, int(p), "") if _is_index(p) else (0, 0, p) for p in parts),
            (2, 0, found.code),
        )

    return tuple(sorted(problems, key=key))
