"""The supervisor of the embedded PostgreSQL: a small process of its own, one per data folder.

It starts the server, starts it again when it dies, and stops it when nobody holds it any more. Its
life is told by an exclusive lock on ``supervisor.lock``, so that a killed one leaves nothing to clean.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path

from agentflow.errors import ConfigError
from agentflow.store.server import (
    USER,
    Account,
    Server,
    account,
    binaries,
    choose_port,
    initialise,
    write_private,
)

LEAVE_AFTER_S = 2.0
"""How long nobody must hold the server before it is stopped."""
START_LIMIT_S = 120.0
LOG_LIMIT = 4_000_000
_TICK_S = 0.25
_QUICK_DEATHS = 20


def supervise(data_dir: Path) -> int:
    """The supervisor's whole life; returns its exit status. Called in a process of its own."""
    home = data_dir / "postgres"
    own = try_lock(home / "supervisor.lock", exclusive=True)
    if own is None:
        return 0
    if os.fork():
        # The starter waits for this process alone; by now the lock belongs to the child as well.
        os._exit(0)
    log = os.open(home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.ftruncate(own, 0)
    os.pwrite(own, str(os.getpid()).encode(), 0)
    try:
        _Supervision(home, log).run()
    except ConfigError as error:
        (home / "endpoint.json").unlink(missing_ok=True)
        write_private(home / "failure", error.message)
        return 1
    return 0


def try_lock(path: Path, *, exclusive: bool) -> int | None:
    """An open file that holds this lock until it is closed, or None when the lock is taken."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


class _Supervision:
    def __init__(self, home: Path, log: int) -> None:
        self._home, self._log = home, log
        self._holders = os.open(home / "holders.lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._endpoint = home / "endpoint.json"
        self._told_to_stop = False
        self._wake = self._listen_for_signals()

    def run(self) -> None:
        runs_as = account()
        port = choose_port(self._last_port())
        self._endpoint.unlink(missing_ok=True)
        programs = binaries(self._home, runs_as)
        password = initialise(programs, self._home, runs_as, self._log)
        server = Server(programs, self._home / "data", runs_as, port, self._log)
        try:
            self._start(server)
            self._publish(server.port, password)
            self._watch(server, password, runs_as)
        finally:
            server.stop()
            self._endpoint.unlink(missing_ok=True)

    def _watch(self, server: Server, password: str, runs_as: Account) -> None:
        free_since: float | None = None
        while not self._told_to_stop:
            select.select([self._wake], [], [], _TICK_S)
            _drain(self._wake)
            if server.exited():
                self._start(server)
                self._publish(server.port, password)
            self._bound_log()
            if not self._nobody_holds(keep=False):
                free_since = None
            elif free_since is None:
                free_since = time.monotonic()
            elif time.monotonic() - free_since >= LEAVE_AFTER_S and self._nobody_holds(keep=True):
                return  # holders.lock is ours until this process has ended: who joins now, waits

    def _start(self, server: Server) -> None:
        """Start until it is ready. The port stays, so that pools find the server again."""
        deadline = time.monotonic() + START_LIMIT_S
        for death in range(_QUICK_DEATHS):
            if death == _QUICK_DEATHS // 2:
                server.port = choose_port(server.port)
            server.start()
            while not server.exited() and time.monotonic() < deadline and not self._told_to_stop:
                if server.ready():
                    return
                time.sleep(0.01)
            if self._told_to_stop or time.monotonic() > deadline:
                break
            time.sleep(0.05 * death)
        if not self._told_to_stop:
            raise ConfigError(f"PostgreSQL does not start: see {self._home / 'log'}")

    def _publish(self, port: int, password: str) -> None:
        entry = {
            "supervisor": os.getpid(),
            "port": port,
            "dsn": f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres",
        }
        write_private(self._home / "port", str(port))
        text = json.dumps(entry)
        if not self._endpoint.exists() or self._endpoint.read_text() != text:
            write_private(self._endpoint, text)

    def _last_port(self) -> int | None:
        port_file = self._home / "port"
        try:
            return int(port_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _nobody_holds(self, *, keep: bool) -> bool:
        try:
            fcntl.flock(self._holders, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not keep:
            fcntl.flock(self._holders, fcntl.LOCK_UN)
        return True

    def _bound_log(self) -> None:
        """Keep one former log; the server goes on writing to the same open file."""
        log = self._home / "log"
        if os.fstat(self._log).st_size > LOG_LIMIT:
            shutil.copyfile(log, log.with_name("log.1"))
            os.ftruncate(self._log, 0)

    def _listen_for_signals(self) -> int:
        read_end, write_end = os.pipe()
        for end in (read_end, write_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, self._stop)
        return read_end

    def _stop(self, *_: object) -> None:
        self._told_to_stop = True


def _drain(descriptor: int) -> None:
    try:
        os.read(descriptor, 4096)
    except BlockingIOError:
        pass
