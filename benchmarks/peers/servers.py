"""Servers that a peer needs: started in the adapter's folder, found there again by the next adapter.

A server outlives an adapter that was killed; the next one with the same folder takes it over, or starts it
anew, on the same ports, when it is gone too. An adapter that ends in order ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 10.0


class ServerFailed(Exception):
    """A server did not come up; the text has what it said last."""


@dataclass(frozen=True)
class Server:
    """A server that is up. ``ports``: on 127.0.0.1, by what they are for."""

    pid: int
    ports: Mapping[str, int]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def began(pid: int) -> str | None:
    """When this process began, in the kernel's count, so that a number used again is not mistaken; None when
    there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if stat[0] == "Z" else stat[19]


def launch(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
    """Start a process in a session of its own; its pid."""
    with log.open("ab") as sink:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    return started.pid


async def end(pid: int, beginning: str | None) -> None:
    """SIGTERM to its group, SIGKILL to what is left after ``PATIENCE_S``; returns when it is gone."""
    for which, patience_s in ((signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, PATIENCE_S)):
        give_up = time.monotonic() + patience_s
        while beginning is not None and began(pid) == beginning:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, which)
            await asyncio.sleep(0.05)
            if time.monotonic() > give_up:
                break


@asynccontextmanager
async def server(
    name: str,
    folder: Path,
    ports: Sequence[str],
    command: Callable[[Mapping[str, int]], Sequence[str]],
    environment: Callable[[Mapping[str, int]], Mapping[str, str]] = lambda ports: {},
) -> AsyncIterator[Server]:
    """The server of this folder, started unless it runs; it listens on the first of its ports, if any.

    Raises:
        ServerFailed: it ended instead.
        TimeoutError: it does not listen in time.
    """
    note = folder / f"{name}.json"
    known = json.loads(note.read_text()) if note.exists() else None
    if known is None:
        known = {"pid": 0, "began": None, "ports": dict(zip(ports, free_ports(len(ports))))}
    if known["began"] is None or began(known["pid"]) != known["began"]:
        log = folder / f"{name}.log"
        known["pid"] = launch(command(known["ports"]), log, environment(known["ports"]))
        known["began"] = began(known["pid"])
        note.write_text(json.dumps(known))
    try:
        if ports:
            up = asyncio.create_task(listening(known["ports"][ports[0]]))
            while not up.done():
                await asyncio.wait([up], timeout=0.5)
                if began(known["pid"]) != known["began"]:
                    up.cancel()
                    said = (folder / f"{name}.log").read_text(errors="replace")[-1500:]
                    raise ServerFailed(f"{name} ended before it listened: {said}")
            up.result()
        yield Server(known["pid"], known["ports"])
    finally:
        await end(known["pid"], known["began"])


async def listening(port: int, within_s: float = 170.0) -> None:
    """Returns when somebody answers on ``port`` of this machine.

    Raises:
        TimeoutError: nobody did in time.
    """
    end_at = time.monotonic() + within_s
    while time.monotonic() < end_at:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise TimeoutError(f"Nobody listens on port {port} after {within_s:.0f} s.")
