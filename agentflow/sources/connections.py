"""Open connections of a worker: opened once, shared by steps, closed when they are out of use."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

import msgspec

from agentflow.errors import NotSupported
from agentflow.sources.base import Source

Json = Any
Key = tuple[str, str, str, str]


class SourceSpec(Protocol):
    """A source as the plan names it; ``config`` holds names of credentials, never values."""

    @property
    def id(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def config(self) -> dict[str, Json]: ...


Opener = Callable[[SourceSpec], Awaitable[Source]]
"""Opens a connection. Raises StepError, NotSupported."""


class Connections:
    """The connections of one worker process, for one event loop; ``openers`` by provider, or by kind
    where the source names none; those of pictures by ``image/provider``.

    A connection is shared by everything of one tenant whose configuration is the same; the id of the
    source plays no part, so equal ids of different workflows never mix. Beyond ``capacity`` the
    longest unused ones are closed, but none that somebody still holds.
    """

    def __init__(self, openers: Mapping[str, Opener], *, capacity: int = 64) -> None:
        self._openers = dict(openers)
        self._capacity = capacity
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def open_count(self) -> int:
        """How many connections are open or being opened."""
        return len(self._entries)

    async def open(self, source: SourceSpec, tenant: str) -> Source:
        """The connection of a source, opened if need be. It is held as long as the returned object
        is referred to; do not close it.

        Raises StepError, NotSupported. A failed opening is not remembered.
        """
        key = _key(tenant, source)
        entry = self._entries.get(key)
        if entry is None or entry.has_failed:
            opening = asyncio.ensure_future(self._opener(source)(source))
            entry = self._entries[key] = _Entry(opening)
        self._entries.move_to_end(key)
        entry.holders += 1
        try:
            connection = await asyncio.shield(entry.opening)
        except BaseException:
            entry.holders -= 1
            if entry.has_failed and self._entries.get(key) is entry:
                del self._entries[key]
            raise
        held = _Held(connection)
        loop = asyncio.get_running_loop()
        weakref.finalize(held, _let_go, loop, self._release, entry).atexit = False
        self._shrink()
        return cast(Source, held)

    async def close(self) -> None:
        """Close every connection, held or not."""
        entries = list(self._entries.values())
        self._entries.clear()
        await asyncio.gather(*(entry.close() for entry in entries), *self._closing)

    def _release(self, entry: _Entry) -> None:
        entry.holders -= 1
        self._shrink()

    def _shrink(self) -> None:
        surplus = max(len(self._entries) - self._capacity, 0)
        idle = [key for key, entry in self._entries.items() if not entry.holders]
        for key in idle[:surplus]:
            task = asyncio.ensure_future(self._entries.pop(key).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _opener(self, source: SourceSpec) -> Opener:
        try:
            named = source.provider or source.kind
            if source.kind == "image":
                named = f"image/{source.provider}"
            return self._openers[named]
        except KeyError:
            raise NotSupported(
                f"Source {source.id!r}: sources of kind {source.kind!r} and provider "
                f"{source.provider!r} cannot be used yet"
            ) from None


class _Entry:
    """A connection, open or being opened, and how many hold it."""

    def __init__(self, opening: asyncio.Future[Source]) -> None:
        self.opening = opening
        self.holders = 0

    @property
    def has_failed(self) -> bool:
        """Whether the opening ended without a connection."""
        opening = self.opening
        return opening.done() and (opening.cancelled() or opening.exception() is not None)

    async def close(self) -> None:
        self.opening.cancel()
        [connection] = await asyncio.gather(self.opening, return_exceptions=True)
        if not isinstance(connection, BaseException):
            await connection.close()


class _Held:
    """A connection in somebody's hands. When the last reference goes, so does the hold."""

    def __init__(self, connection: Source) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _let_go(
    loop: asyncio.AbstractEventLoop, release: Callable[[_Entry], None], entry: _Entry
) -> None:
    """Release on the loop's own thread: the garbage collector may run on another."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(release, entry)


def _key(tenant: str, source: SourceSpec) -> Key:
    config = msgspec.json.encode(source.config, order="deterministic")
    return tenant, source.kind, source.provider, hashlib.sha256(config).hexdigest()
