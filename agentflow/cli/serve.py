"""``agentflow serve``: Ray, the embedded servers and the API, until it is told to stop."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.request import ProxyHandler, build_opener

import typer

from agentflow.cli import options, server
from agentflow.cli.screen import Format
from agentflow.errors import ConfigError
from agentflow.settings import Settings, load

if TYPE_CHECKING:
    from agentflow.distributed.cluster import Cluster

APPLICATION = "serve_app:app"
READY_S = 60.0
TRIED_PORTS = 100


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option("--host", help="The address to listen on.")] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Without it a free one is found."),
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="A Ray cluster to join instead.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The data folder.", file_okay=False)
    ] = None,
) -> int:
    """Start the server; SIGTERM or Ctrl-C drains and stops it."""
    screen = options.screen(context, Format.table)
    settings = load()
    given: dict[str, Any] = {"host": host, "ray_address": address}
    if data_dir is not None:
        given["data_dir"] = data_dir.expanduser().absolute()
    settings = replace(settings, **{name: value for name, value in given.items() if value})
    by_hand = port is not None or bool(os.environ.get("PORT", "").strip())
    settings = replace(settings, port=free_port(settings.host, port or settings.port, by_hand))
    with ExitStack() as closing:
        try:
            _stop_by_signal()
            screen.text(_open(settings, closing))
            threading.Event().wait()
        except KeyboardInterrupt:
            screen.say("Stopping: open executions are released and go on at the next start.")
        finally:
            # A second signal ends this process at once; what is left is then swept up behind it.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    return 0


def free_port(host: str, port: int, by_hand: bool) -> int:
    """The port itself, or the next free one when nobody chose it. Raises ConfigError."""
    for number in range(port, port + 1 if by_hand else min(port + TRIED_PORTS, 65536)):
        try:
            with socket.create_server((host, number), family=_family(host)):
                return number
        except OSError as error:
            if by_hand or error.errno != errno.EADDRINUSE:
                raise ConfigError(_refusal(host, number, error)) from None
    raise ConfigError(f"No port from {port} to {port + TRIED_PORTS - 1} is free; give --port")


def _open(settings: Settings, closing: ExitStack) -> str:
    """Start everything, in the order in which it is needed; the line that says so."""
    import asyncio

    from agentflow.distributed import cluster
    from agentflow.flow import bootstrap_key
    from agentflow.flow.opening import open_database

    bootstrap_key(settings)
    _, closers = asyncio.run(open_database(settings))
    for close in closers:
        closing.callback(close)
    joined = cluster.start(settings)
    closing.callback(joined.shutdown)
    _stop_by_signal()
    from agentflow.distributed import coordinator
    from agentflow.distributed import serve as front

    names = [coordinator.coordinator_name(index) for index in range(settings.coordinators)]
    ours = settings.ray_address is None
    closing.callback(front.withdraw, names, ours=ours, log_file=joined.log_file)
    front.publish(APPLICATION, settings.host, settings.port, joined.log_file)
    _stop_by_signal()
    url = _url(settings.host, settings.port)
    _wait_until_ready(url)
    closing.enter_context(_noted(settings, url))
    return _line(settings, url, joined)


def _stop_by_signal() -> None:
    """SIGTERM and Ctrl-C raise KeyboardInterrupt. Ray takes SIGTERM for itself when it starts."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def _wait_until_ready(url: str) -> None:
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + READY_S
    while True:
        try:
            with opener.open(f"{url}/health/ready", timeout=5) as reply:
                if reply.status == 200:
                    return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConfigError(f"The API at {url} does not become ready: {error}") from None
        time.sleep(0.1)


@contextmanager
def _noted(settings: Settings, url: str) -> Iterator[None]:
    """While it serves, the data folder says where, so that the command line finds it.

    With several servers on a folder the newest is named, and after it the one before.
    """
    note = server.address_file(settings.data_dir)
    former, own = server.noted(settings.data_dir), (url, os.getpid())
    _note(note, *own)
    try:
        yield
    finally:
        if server.noted(settings.data_dir) == own:
            if former and server.alive(former[1]):
                _note(note, *former)
            else:
                note.unlink(missing_ok=True)


def _note(note: Path, url: str, pid: int) -> None:
    draft = note.with_suffix(f".{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({"url": url, "pid": pid}))
    draft.replace(note)


def _line(settings: Settings, url: str, joined: Cluster) -> str:
    parts = [f"AgentFlow is ready: API {url}", f"documentation {url}/docs"]
    if joined.dashboard_url:
        token = f" (token in {joined.token_file})" if joined.token_file else ""
        parts.append(f"Ray dashboard {joined.dashboard_url}{token}")
    parts.append(f"Ray {joined.address}")
    parts.append(f"data {settings.data_dir}")
    wide = [
        f"{port} ({name.split()[0]})"
        for _, port, name in joined.open_ports()
        if port != settings.port or settings.host not in ("0.0.0.0", "::")
    ]
    if wide:
        parts.append(f"open on all interfaces, asking for a key: {', '.join(wide)}")
    return " | ".join(parts)


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is taken; stop what uses it, or give another --port"
    return f"Nothing can listen on {host}:{port} ({error.strerror or error}); give another --host"
