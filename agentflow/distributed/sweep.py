"""Ends the processes of a cluster whose owner is gone, and removes its folder.

``python -m agentflow.distributed.sweep <folder>`` waits for the end of its standard input, which its
owner holds open: so a cluster does not outlive a killed server (parts of Ray would, for a minute).
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

OWNER = "owner"
"""File in the folder: pid and start time of the process that owns the cluster."""
PREFIX = "af-ray-"


def members(folder: Path) -> list[psutil.Process]:
    """The processes of the cluster of this folder: by command line or open log file.

    Ray's workers overwrite their command line and some their environment, but all write logs here.
    What they start for others, such as a database server, has neither and is left alone.
    """
    mine = (os.getpid(), *(parent.pid for parent in psutil.Process().parents()))
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in mine and belongs(process, folder):
                found.append(process)
        except psutil.Error:
            continue  # ended meanwhile, or another user's
    return found


def belongs(process: psutil.Process, folder: Path) -> bool:
    """Whether the process is part of the cluster of this folder; its owner, and one that has ended
    meanwhile, are not."""
    try:
        return _belongs(process, str(folder)) and not _is_owner(process, folder)
    except psutil.Error:
        return False


def _belongs(process: psutil.Process, name: str) -> bool:
    if process.uids().real != os.getuid():
        return False
    return any(word.startswith((name, f"--temp-dir={name}")) for word in process.cmdline()) or any(
        file.path.startswith(f"{name}/") for file in process.open_files()
    )


def _is_owner(process: psutil.Process, folder: Path) -> bool:
    """The owner itself is never ours to end."""
    owner = _owner(folder)
    return owner is not None and owner.pid == process.pid


def _owner(folder: Path) -> psutil.Process | None:
    try:
        pid, started = (folder / OWNER).read_text().split()
        process = psutil.Process(int(pid))
        return process if f"{process.create_time():.2f}" == started else None
    except (OSError, ValueError, psutil.Error):
        return None


def own(folder: Path) -> None:
    """Note this process as the owner of the folder's cluster."""
    me = psutil.Process()
    (folder / OWNER).write_text(f"{me.pid} {me.create_time():.2f}\n")


def end(processes: Sequence[psutil.Process], grace_s: float = 3.0) -> None:
    """Terminate these processes, kill those that stay; returns when they are gone."""
    for sign, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        alive = [process for process in processes if _alive(process)]
        for process in alive:
            try:
                process.send_signal(sign)
            except psutil.Error:
                continue  # ended meanwhile
        psutil.wait_procs(alive, timeout=wait_s)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def sweep(folder: Path, grace_s: float = 3.0) -> int:
    """End what is left of the cluster of this folder and remove it; how many processes there were."""
    left = members(folder)
    end(left, grace_s)
    again = members(folder)  # what they started while they ended
    end(again, 0.0)
    shutil.rmtree(folder, ignore_errors=True)
    return len(left) + len(again)


def sweep_abandoned(parent: Path) -> int:
    """Sweep our own clusters below this folder whose owner is gone; how many there were."""
    abandoned = []
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            ours = folder.stat().st_uid == os.getuid() and (folder / OWNER).exists()
        except OSError:
            continue  # removed meanwhile
        if ours and _owner(folder) is None:
            abandoned.append(folder)
    for folder in abandoned:
        sweep(folder, 0.0)
    return len(abandoned)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    sweep(Path(sys.argv[1]), 0.0)
