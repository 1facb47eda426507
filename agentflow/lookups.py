"""What the names of hosts mean: their addresses, asked for when they are needed and not kept."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host name and port -> every address the name has, as text. Raises OSError."""


async def resolve_host(host: str, port: int) -> list[str]:
    """Every address the system's resolver knows for the name. Raises OSError."""
    literal = host.removeprefix("[").removesuffix("]")
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, literal)
            return [literal]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Lookups:
    """The lookups under way. Who asks for a name that is looked up waits for the same answer: a thousand
    calls at once are one lookup."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._under_way: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """What the name means now. Raises OSError."""
        place = host, port
        lookup = self._under_way.get(place)
        if lookup is None:
            lookup = self._under_way[place] = asyncio.ensure_future(self._resolve(host, port))
            lookup.add_done_callback(self._ended)
        return await asyncio.shield(lookup)

    def _ended(self, done: asyncio.Future[Sequence[str]]) -> None:
        """A lookup ended, perhaps with nobody left who waits for it."""
        place = next(place for place, each in self._under_way.items() if each is done)
        del self._under_way[place]
        if not done.cancelled():
            done.exception()
