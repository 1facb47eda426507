"""The demonstration runs to its end on a fresh data folder, kill included, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def test_demo_survives_the_kill_of_its_coordinator_and_repeats_no_committed_call(data_dir):
    done = subprocess.run(
        [sys.executable, "examples/demo.py"],
        cwd=ROOT,
        env={**os.environ, "AGENTFLOW_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "SIGKILL to af/coordinator/" in done.stdout
    assert "none was made again" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if any(str(data_dir) in part for part in process.info["cmdline"] or [])
        and "agentflow.store" not in " ".join(process.info["cmdline"])
        and "postgres" not in " ".join(process.info["cmdline"])
    ]
    assert left == []
