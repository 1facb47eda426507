"""The embedded PostgreSQL: joined by any number of processes; the first starts it, the last stops it.

Everything is told by advisory file locks, which the kernel drops when a process dies, however it
dies. A holder has a shared lock on ``holders.lock``; the supervisor (see ``supervisor.py``) an
exclusive one on ``supervisor.lock``. Should the supervisor be killed, its server dies with it, and the
holders start a new one on the same port within a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from agentflow.errors import ConfigError, Conflict
from agentflow.store.server import Account, account
from agentflow.store.supervisor import START_LIMIT_S, supervise, try_lock

_GUARD_S = 0.3


class EmbeddedPostgres:
    """A hold on the embedded server: it runs for as long as anyone holds it."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._home = data_dir / "postgres"
        self._lock: int | None = _lock_shared(self._home / "holders.lock")
        self._closing = threading.Event()
        try:
            self._dsn = _wait_until_ready(data_dir)
        except BaseException:
            os.close(self._lock)
            raise
        self._guard = threading.Thread(target=self._watch, name="af-embedded", daemon=True)
        self._guard.start()

    @property
    def dsn(self) -> str:
        """The address of the server, with its password. It stays the same over a restart, unless
        another program took the port meanwhile; so read it anew when connections fail."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._dsn = _read_endpoint(self._home)["dsn"]
        return self._dsn

    def close(self) -> None:
        """Let go. The server stops about two seconds after the last holder let go. Idempotent."""
        if self._lock is None:
            return
        self._closing.set()
        self._guard.join()
        os.close(self._lock)
        self._lock = None

    def _watch(self) -> None:
        """Start the supervisor anew when it was killed; slower and slower when that does not help."""
        pause = _GUARD_S
        while not self._closing.wait(pause):
            try:
                launched = _ensure_supervisor(self._data_dir)
            except FileNotFoundError:
                return  # the data folder was removed
            pause = min(pause * 2, 30.0) if launched else _GUARD_S


def join(data_dir: Path) -> EmbeddedPostgres:
    """Join the embedded server of this data folder; start it when nobody did. Blocks until ready.

    Raises ConfigError when the folder or the machine does not allow it, in one sentence with the fix.
    """
    data_dir = data_dir.absolute()
    runs_as = account()
    make_data_dir(data_dir)
    _check_entry(data_dir, runs_as)
    return EmbeddedPostgres(data_dir)


def make_data_dir(data_dir: Path) -> None:
    """Make the data folder where it does not exist. Only its owner can list it; for root, others may
    pass through it, because the database server runs as another user. Existing folders are left alone.

    Raises ConfigError when it cannot be made.
    """
    for folder in (*reversed(data_dir.absolute().parents), data_dir.absolute()):
        if not folder.exists():
            _make_folder(folder)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            folder.chmod(0o711)
    except FileExistsError:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(
                f"The folder {folder} belongs to another user: set AGENTFLOW_DATA_DIR to a folder "
                "of your own"
            ) from None
    except OSError as error:
        raise ConfigError(
            f"The data folder {folder} cannot be made ({error.strerror}): "
            "set AGENTFLOW_DATA_DIR to a folder of your own"
        ) from None


def _check_entry(data_dir: Path, runs_as: Account) -> None:
    for folder in (data_dir, *data_dir.parents):
        if not runs_as.can_enter(folder):
            raise ConfigError(
                f"The database server runs as another user than root, who may not enter {folder}: "
                "set AGENTFLOW_DATA_DIR to a folder that others may enter, such as /var/lib/agentflow"
            )


def _lock_shared(path: Path) -> int:
    """Waits while the supervisor is on its way out, or the folder is being removed."""
    while True:
        _make_folder(path.parent)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except PermissionError:
            raise ConfigError(
                f"{path} belongs to another user: set AGENTFLOW_DATA_DIR to a folder of your own"
            ) from None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def _wait_until_ready(data_dir: Path) -> str:
    home = data_dir / "postgres"
    deadline = time.monotonic() + START_LIMIT_S
    launched = False
    while time.monotonic() < deadline:
        if _ensure_supervisor(data_dir, failure_of_ours=launched):
            launched = True
        dsn = _answering(home)
        if dsn:
            return dsn
        time.sleep(0.02)
    raise ConfigError(f"The embedded database did not start in time: see {home / 'log'}")


def _ensure_supervisor(data_dir: Path, *, failure_of_ours: bool = False) -> bool:
    """Start a supervisor unless one lives; whether it was started. One process at a time does this.

    ``failure_of_ours``: we started one before, so that what it wrote about its failure is for us.
    """
    home = data_dir / "postgres"
    with _exclusive(home / "start.lock"):
        if _supervisor_lives(home):
            return False
        failure = home / "failure"
        if failure_of_ours and failure.exists():
            raise ConfigError(failure.read_text())
        failure.unlink(missing_ok=True)
        _launch(data_dir)
        return True


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _supervisor_lives(home: Path) -> bool:
    descriptor = try_lock(home / "supervisor.lock", exclusive=False)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _launch(data_dir: Path) -> None:
    """Returns when the supervisor has its lock; its own child lives on, apart from this process."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    log = os.open(
        data_dir / "postgres" / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600
    )
    try:
        subprocess.run(
            [sys.executable, "-m", "agentflow.store.embedded", str(data_dir)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=False,
            env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(log)


def _read_endpoint(home: Path) -> dict[str, str]:
    entry: dict[str, str] = json.loads((home / "endpoint.json").read_text())
    return entry


def _answering(home: Path) -> str | None:
    """The server's address when the living supervisor published it and something listens there."""
    try:
        entry = _read_endpoint(home)
        if (home / "supervisor.lock").read_text() != str(entry["supervisor"]):
            return None
        with socket.create_connection(("127.0.0.1", int(entry["port"])), timeout=1):
            return entry["dsn"]
    except (OSError, ValueError, KeyError):
        return None


def size_bytes(data_dir: Path) -> int:
    """What the embedded server occupies in this data folder; files it shares by hard link count."""
    total = 0
    for folder, _, names in os.walk(data_dir / "postgres"):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def destroy(data_dir: Path) -> None:
    """Remove the embedded server and all its data. Raises Conflict while any process holds it."""
    home = data_dir.absolute() / "postgres"
    if not home.is_dir():
        return
    held = _take_from_holders(home / "holders.lock")
    try:
        with _exclusive(home / "start.lock"):
            _end_supervisor(home)
            shutil.rmtree(home)
    finally:
        os.close(held)


def _take_from_holders(path: Path) -> int:
    """The exclusive lock. A supervisor on its way out has it for a moment; holders share it."""
    deadline = time.monotonic() + 30
    while (taken := try_lock(path, exclusive=True)) is None:
        shared = try_lock(path, exclusive=False)
        if shared is not None:
            os.close(shared)
        if shared is not None or time.monotonic() > deadline:
            raise Conflict(
                f"The embedded database at {path.parent} is in use: stop AgentFlow first"
            )
        time.sleep(0.05)
    return taken


def _end_supervisor(home: Path) -> None:
    deadline = time.monotonic() + 30
    while _supervisor_lives(home):
        if time.monotonic() > deadline:
            raise Conflict(f"The embedded database in {home.parent} does not stop: try again")
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((home / "supervisor.lock").read_text()), signal.SIGTERM)
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1])))
