"""Reuse of results: what makes two steps the same work, and the contract of where results are kept.

A result is reused where the tenant, the content of the node and of its sources, and every value that the
node's templates and expressions read are the same. What plays no part: names of workflow, execution and
step, the rest of the state, conditions of edges, and how the step is retried, limited and placed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from agentflow.execution.events import Blob
from agentflow.plan.plan import Cache, Field, PlanNode, PlanSource

Json = Any
FORMAT = 1
"""Counted up whenever what nodes make of the same content changes."""

_encode = msgspec.json.Encoder().encode


def result_key(
    tenant: str,
    node: PlanNode,
    sources: Sequence[PlanSource],
    fields: Sequence[Field],
    view: Mapping[str, Json],
) -> bytes:
    """The digest of all that decides a step's result: 32 bytes. ``node`` has a ``cache``; ``fields`` are
    those that it reads, whose types its expressions go by.

    Of a source it takes the configuration, so the names of credentials and never their values. The
    values that are read are taken as they are, in their order, before templates are rendered: two views
    that a node cannot tell apart may get two keys, but never two that it can tell apart the same.
    """
    reuse = node.cache or Cache(0.0)
    roots = {path[0] for path in reuse.paths}
    content = (
        FORMAT,
        tenant,
        node.type,
        msgspec.json.encode(node.options, order="sorted"),
        [msgspec.json.encode(source, order="sorted") for source in sources],
        sorted((field.name, field.type) for field in fields if field.name in roots),
        [(path, _read(view, path)) for path in reuse.paths],
    )
    return hashlib.sha256(_encode(content)).digest()


def _read(view: Mapping[str, Json], path: tuple[str, ...]) -> Json:
    """``(value,)``; or how far the path leads, and what stands there in the way."""
    if path == ("state",):
        return (view,)
    value: Json = view
    for depth, segment in enumerate(path[1:] if path[0] == "state" else path):
        if not isinstance(value, Mapping):
            return depth, value
        if segment not in value:
            return depth, None
        value = value[segment]
    return (value,)


def is_makeshift(node: PlanNode, result: Json) -> bool:
    """Whether a result is what was taken because nobody answered, and not what the same content gives
    another time: a router's fallback; a status that says "not now" which the author of an http node takes
    for a success."""
    if not isinstance(result, Mapping):
        return False
    if node.type == "router":
        return "error" in result
    status = result.get("status_code") if node.type == "http" else None
    return isinstance(status, int) and (status in (408, 429) or status >= 500)


class Wanted(msgspec.Struct, frozen=True):
    """A result that would be reused if it is at most ``ttl_s`` seconds old."""

    tenant: str
    key: bytes
    ttl_s: float


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A result as it is kept: what the step gave and wrote, the content it refers to, which execution
    did it, and the ``tokens`` and ``cost`` (US dollars) that it took. ``at``: when it was kept, in
    seconds since the epoch; the store says."""

    result: Json
    delta: dict[str, Json]
    blobs: tuple[Blob, ...] = ()
    execution_id: str
    tokens: int = 0
    cost: float = 0.0
    at: float = 0.0


class Results(Protocol):
    """Where results are kept for reuse, each tenant's apart. To lose any is harmless."""

    async def find(self, wanted: Sequence[Wanted]) -> list[Kept | None]:
        """What there is, in the order asked for. Raises StoreError."""
        ...

    async def keep(self, results: Sequence[tuple[Wanted, Kept]]) -> None:
        """Keep these, in place of older ones, for as long as they are wanted and their execution's
        record lasts. Raises StoreError."""
        ...
