"""How long the product takes to be there: `python -m benchmarks.startup`. Seconds, medians, with targets."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Json = Any
ROOT = Path(__file__).parents[1]
ROUNDS = 5
IMPORT_S, VALIDATE_S = 0.15, 0.6


def wall(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - began


def median_wall(command: list[str]) -> float:
    return statistics.median(wall(command) for _ in range(ROUNDS))


def figures() -> list[Json]:
    """Every figure of starting, with its target."""
    bare = median_wall([sys.executable, "-c", "pass"])
    imported = median_wall([sys.executable, "-c", "import agentflow"])
    cli = str(Path(sys.executable).parent / "agentflow")
    validate = median_wall([cli, "validate", "examples/support_triage.json"])
    return [
        {
            "name": "import agentflow over bare Python, s",
            "value": imported - bare,
            "target": IMPORT_S,
        },
        {"name": "agentflow validate, s", "value": validate, "target": VALIDATE_S},
    ]


if __name__ == "__main__":
    for figure in figures():
        print(f"{figure['name']:70} {figure['value']:8.3g} {figure['target']:6g}")
