"""The network between the system and its database: a TCP proxy that can be told to fail."""

from __future__ import annotations

import asyncio
import contextlib
import random

UP, DOWN = "up", "down"
"""To the server, and from it."""
PIECE = 65536


class Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = (client, server)

    def cut(self, hard: bool) -> None:
        """End it: with a reset where ``hard``, else as a process ends that closes its files."""
        for writer in self.writers:
            with contextlib.suppress(OSError):
                writer.transport.abort() if hard else writer.close()


class Proxy:
    """Forwards everything until a fault is on. ``touched`` counts pieces that met the present fault:
    delayed, held back or cut off."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.target = port
        self.touched = 0
        self._links: set[Link] = set()
        self._delay_s = 0.0
        self._cut_after: int | None = None
        self._holes: frozenset[str] = frozenset()
        self._mark, self._times, self._passes = b"", 0, True
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        return len(self._links)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self.heal()
        if self._server is not None:
            self._server.close()
        self.reset()

    def heal(self) -> None:
        """Everything passes again; what a black hole held back arrives now."""
        self._delay_s, self._cut_after, self._holes = 0.0, None, frozenset()
        self._times = 0
        self._open.set()

    def delay(self, seconds: float) -> None:
        """Each piece takes this long, either way."""
        self.touched, self._delay_s = 0, seconds

    def cut_after(self, count: int) -> None:
        """Each connection is cut when the server has been sent this many bytes more, all of which
        arrive: what was asked for is done, and nobody hears of it."""
        self.touched, self._cut_after = 0, count

    def cut_at(self, mark: bytes, times: int, passes: bool) -> None:
        """So many times a connection is cut where the server is sent these bytes. They arrive where they
        pass: what was asked for is done, and nobody hears of it; else it is not done."""
        self.touched, self._mark, self._times, self._passes = 0, mark, times, passes

    def hole(self, *ways: str) -> None:
        """Nothing passes these ways, and nobody is told."""
        self.touched, self._holes = 0, frozenset(ways)
        self._open.clear()

    def reset(self) -> int:
        """Every open connection ends with a reset; how many there were."""
        links = list(self._links)
        for link in links:
            link.cut(hard=True)
        return len(links)

    def cut_some(self, chance: random.Random) -> int:
        """Cut about half of the connections."""
        chosen = [link for link in self._links if chance.random() < 0.5]
        for link in chosen:
            link.cut(hard=False)
        return len(chosen)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._holes:
            self.touched += 1
            await self._open.wait()
        try:
            upstream, server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, server)
        self._links.add(link)
        ways = (self._pump(UP, reader, server, link), self._pump(DOWN, upstream, writer, link))
        try:
            await asyncio.gather(*ways)
        finally:
            self._links.discard(link)
            link.cut(hard=False)

    async def _pump(
        self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link
    ) -> None:
        left: int | None = None
        try:
            while piece := await reader.read(PIECE):
                if self._delay_s:
                    self.touched += 1
                    await asyncio.sleep(self._delay_s)
                if way in self._holes:
                    self.touched += 1
                    await self._open.wait()
                if way == UP and self._times and self._mark in piece:
                    self.touched, self._times = self.touched + 1, self._times - 1
                    if self._passes:
                        writer.write(piece)
                        await writer.drain()
                    break
                cutting = self._cut_after if way == UP else None
                left = None if cutting is None else cutting if left is None else left
                writer.write(piece if left is None else piece[:left])
                await writer.drain()
                if left is not None:
                    left -= len(piece)
                    if left <= 0:
                        self.touched += 1
                        break
        except OSError:
            pass  # one side is gone: the other one is told by the end of its own
        link.cut(hard=False)
