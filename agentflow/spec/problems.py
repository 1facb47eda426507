"""What is wrong with a spec: the Problem record, its codes, and JSON pointers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

MEANING: Mapping[str, str] = {
    "E001": "The text is not JSON, or the document does not have the shape of a workflow.",
    "E002": "A required field is missing.",
    "E003": "A value is not allowed here: its type, range or form, or two spellings that contradict "
    "each other.",
    "E004": "The node type does not exist.",
    "E005": "The start node does not exist.",
    "E006": "An edge, or a goto, names a node that does not exist.",
    "E007": "A queue names a node that does not exist.",
    "E008": "A node, or a source's fallbacks, names a source that does not exist.",
    "E009": "Two nodes have the same id.",
    "E010": "Two sources have the same id.",
    "E011": "Two queues, or two sub-queues of one queue, have the same id.",
    "E012": "A cycle has more than one entry, or no conditional edge that leaves it, or a workflow "
    "contains itself.",
    "E013": "No edge and no goto leads from the start node to this node.",
    "E014": "The node needs a source and names none.",
    "E015": "The kind, provider or driver of a source does not exist.",
    "E016": "A source holds a credential, or names an environment variable that the operator does not "
    "allow. The value is never repeated.",
    "E017": "A limit of a queue or source, or the weight of a sub-queue, is not possible.",
    "E018": "A node or an edge names a queue that does not exist.",
    "E019": "An expression does not compile, a condition does not give true or false, or a node "
    "dispatches on two fields.",
    "E020": "An expression names a field that is not declared, or a text names a node that does not "
    "exist.",
    "E021": "A text refers to the result of a node that is not upstream, so it can never be there.",
    "E022": "Two nodes write the same state field, neither comes after the other, and no merge rule says "
    "how the two become one.",
    "E023": "A join can never be met.",
    "E024": "An option of the node is not allowed, missing, or does not fit the others.",
    "E025": "Resources that no machine could give.",
    "E026": "Too large: more than 10,000 nodes, 50,000 edges, 5 MB, or 64 levels of nesting.",
    "W001": "Parallel branches write the same built-in field; the last one in canonical order wins.",
    "W002": "Parallel branches end without an aggregator.",
    "W003": "A source is declared, but no node uses it.",
    "W004": "A queue is declared, but no edge or node uses it.",
    "W005": "An else edge that is always taken, or never.",
    "W006": "A router without outgoing edges, or without conditions on them, so that all are taken.",
    "W007": "There is no input node.",
    "W008": "A template names a field that is not declared: it must come with the initial state, else the "
    "text stays as it is.",
    "W009": "An environment variable that a source names is not set on this server.",
    "W010": "No price is known for the model: its cost counts as 0, and a cap on money cannot hold.",
    "W011": "One call is estimated at more tokens than the whole limit of its queue.",
    "W012": "Effects once together with several attempts, a race or a chain: nothing is called twice.",
    "W013": "The model, or the version of the plugin, is deprecated.",
}
"""Problem code -> what it means, in one sentence."""


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


def about_node(
    problems: Iterable[Problem], document: Any, node_id: str
) -> tuple[Problem, ...] | None:
    """The problems of one node and of the edges that leave it; None when there is no such node.

    Problems of the document as a whole are everybody's: those without a place stay.
    """
    lists = document if isinstance(document, dict) else {}
    nodes = {f"/nodes/{i}" for i in _positions(lists.get("nodes"), ("id",), node_id)}
    if not nodes:
        return None
    places = nodes | {
        f"/edges/{i}" for i in _positions(lists.get("edges"), ("from", "from_node"), node_id)
    }
    return tuple(
        found
        for found in problems
        if not found.path or "/".join(found.path.split("/")[:3]) in places
    )


def _positions(items: Any, keys: Sequence[str], value: str) -> list[int]:
    return [
        position
        for position, item in enumerate(items if isinstance(items, list) else ())
        if isinstance(item, dict) and any(item.get(key) == value for key in keys)
    ]
