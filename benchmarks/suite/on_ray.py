"""Recovery on Ray, as ``benchmarks.recovery`` measures it: coordinators and a pool worker, killed in turns.

The contender ``agentflow_ray`` has its coordinator in its own process, so a kill of it would be a kill of Ray
as well. This is the product's own arrangement; the figure is the seconds to the next call of a step's node.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.suite.contender import ROOT

Json = Any
NAME, WORKLOAD = "agentflow_ray", "recovery"
FIGURES = {"coordinator": "to_next_step_s", "worker": "worker_to_next_step_s"}
MINUTES = 4.0
PATIENCE_S = 420.0
STOP_S = 60.0


class RecoveryFailed(Exception):
    """It could not be measured; the text has what was said last."""


def killed(kills: int) -> Json:
    """What ``benchmarks.recovery`` prints after so many kills of each kind. Raises RecoveryFailed."""
    kinds = ["--kinds", *FIGURES, "--kills", str(kills), "--minutes", str(MINUTES)]
    command = [sys.executable, "-m", "benchmarks.recovery", *kinds]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            told, said = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise RecoveryFailed(f"it took longer than {PATIENCE_S:g} s") from None
        finally:
            _end(process)
    if process.returncode:
        raise RecoveryFailed(f"it ended with {process.returncode}: {said.strip()[-800:]}")
    try:
        return json.loads(told)
    except ValueError:
        raise RecoveryFailed(
            f"it printed {told[:200]!r} where a document of JSON should be"
        ) from None


def _end(process: subprocess.Popen[str]) -> None:
    """Ask it to clear up, and end it where it does not in time."""
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def add(result: Json, kills: int) -> None:
    """Put the medians into a result of the suite, or why there are none."""
    print(f"{WORKLOAD} on Ray, {kills} kills of each kind", file=sys.stderr, flush=True)
    for by in (result["unsupported"], result["trouble"]):
        by.get(WORKLOAD, {}).pop(NAME, None)
    try:
        told = killed(kills)
        figures = {}
        for kind, figure in FIGURES.items():
            if told[kind]["next call"] is None:
                raise RecoveryFailed(f"none of {kills} kills of a {kind} struck an execution")
            figures[figure] = told[kind]["next call"]["p50"]
    except RecoveryFailed as failure:
        result["trouble"].setdefault(WORKLOAD, {})[NAME] = str(failure)
        return
    result["figures"].setdefault(WORKLOAD, {})[NAME] = figures
    result["counted"].setdefault(WORKLOAD, {})[NAME] = min(
        told[kind]["strikes"] for kind in FIGURES
    )
    result["samples"].append({"contender": NAME, "workload": WORKLOAD, "answer": told})
