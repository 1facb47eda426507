"""A contender as the runner sees it: a process that answers one request at a time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.suite.usage import Meter, Usage, tree

Json = Any
ROOT = Path(__file__).parents[2]
READY_S = 180.0
ANSWER_S = 600.0
STOP_S = 30.0
LINE_BYTES = 2**24


class ContenderFailed(Exception):
    """A contender did not start, ended, or did not answer in time; the text has what it said last."""


@dataclass(frozen=True)
class Command:
    """How a contender is started."""

    name: str
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


class Contender:
    """A started contender."""

    def __init__(self, command: Command, process: asyncio.subprocess.Process, log: Path) -> None:
        self.command = command
        self.facts: Json = {}
        self._process = process
        self._log = log
        self._numbers = itertools.count(1)

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """Its own process and the servers that it says it started."""
        return [self._process.pid, *self.facts.get("pids", ())]

    async def wait_ready(self) -> None:
        """Returns once it said what it is. Raises ContenderFailed."""
        self.facts = await self._line(READY_S)
        if not self.facts.get("ready"):
            raise ContenderFailed(f"{self.name} said {self.facts} where it should be ready")

    async def send(self, workload: str, parameters: Json) -> int:
        """Ask without waiting for the answer; the number of the request. Raises ContenderFailed."""
        number = next(self._numbers)
        assert self._process.stdin is not None
        message = {"id": number, "workload": workload, **parameters}
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError):  # uvloop's word for a pipe that is closed
            raise ContenderFailed(f"{self.name} has ended:{self._last()}") from None
        return number

    async def ask(self, workload: str, parameters: Json, database: list[int]) -> tuple[Json, Usage]:
        """The answer, and what everybody used meanwhile. Raises ContenderFailed."""
        with Meter(self.pids, database) as meter:
            number = await self.send(workload, parameters)
            answer = await self._line(ANSWER_S)
        if answer.get("id") != number:
            raise ContenderFailed(f"{self.name} answered {answer} to request {number}")
        return answer, meter.usage

    async def told(self, workload: str, parameters: Json) -> Json:
        """The answer alone. Raises ContenderFailed."""
        await self.send(workload, parameters)
        return await self._line(ANSWER_S)

    async def _line(self, timeout_s: float) -> Json:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise ContenderFailed(
                f"{self.name} did not answer within {timeout_s:g} s:{self._last()}"
            ) from None
        if not line:
            raise ContenderFailed(f"{self.name} has ended:{self._last()}")
        try:
            return json.loads(line)
        except ValueError:
            raise ContenderFailed(f"{self.name} said {line[:200]!r}:{self._last()}") from None

    def _last(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-15:]
        return "\n    ".join(["", *lines]) if lines else " it said nothing"

    def kill(self) -> None:
        """SIGKILL to its own process, or to those that it named for this."""
        for pid in self.facts.get("kill", [self._process.pid]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end, and end what is left of it."""
        left = tree(self.pids)
        with contextlib.suppress(ConnectionError, TimeoutError):
            assert self._process.stdin is not None
            if self._process.returncode is None:
                self._process.stdin.write(b'{"stop": true}\n')
                self._process.stdin.close()
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        await self._process.wait()


@contextlib.asynccontextmanager
async def started(command: Command, folder: Path, dsn: str) -> AsyncIterator[Contender]:
    """A contender that is ready; it and its servers are gone afterwards. Raises ContenderFailed."""
    log = _log(folder)
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *command.arguments,
            "--folder",
            str(folder),
            "--dsn",
            dsn,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=sink,
            cwd=ROOT,
            limit=LINE_BYTES,
            env={**os.environ, **dict(command.environment)},
        )
    contender = Contender(command, process, log)
    try:
        await contender.wait_ready()
        yield contender
    finally:
        await contender.stop()


def _log(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "log"


def ours(name: str) -> Command:
    """One of our own contenders."""
    module = f"benchmarks.suite.contenders.{name}"
    return Command(name, (sys.executable, "-m", module), (("PYTHONPATH", str(ROOT)),))
