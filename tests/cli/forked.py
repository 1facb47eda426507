"""The command loaded once; every call of it is a fork, a process of its own without the wait for imports.

``Template`` is the side of the tests; run as a program, this file is the process that is forked.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

Done = subprocess.CompletedProcess[str]
LIMIT_S = 120
LARGEST = 200_000
LOADED = (
    *(f"agentflow.cli.{name}" for name in ("backup", "doctor", "executions", "graph", "keys")),
    *(f"agentflow.cli.{name}" for name in ("restore", "run", "schema", "server", "validate")),
    "agentflow.engine.door",
    "agentflow.engine.engine",
    "agentflow.flow.opening",
    "agentflow.nodes.llm",
    "agentflow.nodes.router",
    "agentflow.plan.langgraph",
    "agentflow.sources.openai",
    "agentflow.store.journal",
    "agentflow.store.retention",
    "agentflow.telemetry.metrics",
    "aiohttp",
    "anyio._backends._asyncio",
    "genai_prices.data_snapshot",
    "langgraph.graph",
    "openai.resources.chat.completions",
)


class Template:
    """The process that is forked, and the line to it."""

    def __init__(self, environ: dict[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.cli.forked", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            cwd=Path(__file__).resolve().parents[2],
            env=environ,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        ours.settimeout(LIMIT_S)
        self._line = ours
        self._alone = threading.Lock()

    def call(
        self, words: tuple[str, ...], stdin: bytes | None, environ: dict[str, str], folder: Path
    ) -> Done:
        """What ``agentflow *words`` says and its exit code, as of a process with these pipes."""
        pipes = [os.pipe(), os.pipe(), os.pipe()]
        (given, feed), (out, told), (err, complained) = pipes
        said: dict[int, bytes] = {}
        threads = [threading.Thread(target=_read, args=(end, said)) for end in (out, err)]
        threads.append(threading.Thread(target=_feed, args=(feed, stdin or b"")))
        with self._alone:
            request = json.dumps([words, environ, str(folder)]).encode()
            socket.send_fds(self._line, [request], [given, told, complained])
            for end in (given, told, complained):
                os.close(end)
            for thread in threads:
                thread.start()
            pid = int(self._line.recv(LARGEST))
            try:
                code = int(self._line.recv(LARGEST))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._line.recv(LARGEST)
                raise
        for thread in threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), f"agentflow {words} left a process that holds its output"
        return Done(words, code, said[out].decode(), said[err].decode())

    def close(self) -> None:
        self._line.close()
        self._process.wait(LIMIT_S)


def _read(end: int, said: dict[int, bytes]) -> None:
    with os.fdopen(end, "rb") as pipe:
        said[end] = pipe.read()


def _feed(end: int, data: bytes) -> None:
    try:
        with os.fdopen(end, "wb") as pipe:
            pipe.write(data)
    except BrokenPipeError:
        """The command ended without reading all of it."""


def _serve(line: socket.socket) -> None:
    """Fork for every request; in the fork, leave with the command's exit code."""
    from agentflow.cli.main import COMMANDS, main

    for name in (*LOADED, *(f"agentflow.cli.{name}" for name in COMMANDS)):
        import_module(name)
    gc.freeze()
    while True:
        request, ends, *_ = socket.recv_fds(line, LARGEST, 3)
        if not request:
            return
        pid = os.fork()
        if not pid:
            line.close()
            words, environ, folder = json.loads(request)
            os.environ.clear()
            os.environ.update(environ)
            os.chdir(folder)
            for place, end in enumerate(ends):
                os.dup2(end, place)
                os.close(end)
            sys.argv = ["agentflow", *words]
            main(words)
        for end in ends:
            os.close(end)
        line.send(str(pid).encode())
        line.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


if __name__ == "__main__":
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    _serve(control)
