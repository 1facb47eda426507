"""Where the time of a hot path goes: ``python -m benchmarks.suite.profile --workload chain10``.

Runs one of our contenders under load and looks into it with py-spy: a flame graph in
``.bench/profile-WORKLOAD.svg``, and the functions by their own time, in microseconds of a step, on standard
output. The sampled process is not stopped, so that it is fast enough to be looked at; CPU time alone counts.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.suite import report
from benchmarks.suite.contender import Contender, ContenderFailed, ours, started
from benchmarks.suite.database import Database, folder_of_its_own

Json = Any
HOME = Path(__file__).parents[2] / ".bench"
RATE = 500
ASKED: dict[str, Json] = {
    "chain10": {"executions": 64, "in_flight": 64},
    "fan100": {"executions": 4, "in_flight": 4},
    "llm_fan": {"executions": 5, "width": 200, "step_s": 1.0},
    "payload": {"executions": 5},
}
GROWS = ("chain10", "fan100", "payload")


class Profile(NamedTuple):
    """Samples by stack, innermost function last; how many steps and CPU seconds they are of."""

    stacks: Counter[tuple[str, ...]]
    steps: int
    cpu_s: float


def spy() -> str:
    """Where py-spy is. Raises SystemExit with the way to get it."""
    beside = Path(sys.executable).parent / "py-spy"
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise SystemExit("py-spy is not installed: run `make setup`")
    return found


def parsed(raw: str) -> Counter[tuple[str, ...]]:
    """Stacks as py-spy writes them: functions from the outermost, a blank, how often. Those of the main
    thread alone: others wait, and a thread that waits is not always told from one that works."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if "_bootstrap (threading.py" not in stack.partition(";")[0]:
            stacks[tuple(stack.split(";"))] += int(count)
    return stacks


def own_times(stacks: Counter[tuple[str, ...]]) -> Counter[str]:
    """Function -> samples in which it was the innermost one."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[_place(stack[-1])] += count
    return found


def whole_times(stacks: Counter[tuple[str, ...]]) -> Counter[str]:
    """Function -> samples in which it was somewhere in the stack."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        for name in {_place(frame) for frame in stack}:
            found[name] += count
    return found


def _place(frame: str) -> str:
    """``function (file)``; the line is of no use here."""
    return frame.rpartition(":")[0] + ")" if ":" in frame else frame


def part_of(frame: str) -> str:
    """The part of the house, or the library, in which a function lies."""
    path = frame.rpartition(" (")[2]
    folders = path.split("/")
    if folders[0] == "agentflow":
        return "/".join(folders[:2]) if len(folders) > 2 else "agentflow"
    if folders[0] in ("asyncio", "uvloop") or path.startswith("selectors"):
        return "event loop"
    return folders[0] if len(folders) > 1 else "standard library"


def parts(profile: Profile) -> str:
    """The parts of the house by own time, the time of C code being that of its caller."""
    total = sum(profile.stacks.values())
    found: Counter[str] = Counter()
    for stack, count in profile.stacks.items():
        found[part_of(stack[-1])] += count
    step_us = 1e6 * profile.cpu_s / profile.steps
    rows = [
        [name, f"{step_us * samples / total:.1f}", f"{100 * samples / total:.0f} %"]
        for name, samples in found.most_common()
    ]
    return report.table(["part", "own, us/step", "share"], rows)


def table(profile: Profile, count: int = 40) -> str:
    """The functions by own time. A sample is an equal share of the CPU time that was measured."""
    total = sum(profile.stacks.values())
    share_us = 1e6 * profile.cpu_s / profile.steps / total
    whole = whole_times(profile.stacks)
    rows = [
        [name, f"{samples * share_us:.1f}", f"{whole[name] * share_us:.1f}"]
        for name, samples in own_times(profile.stacks).most_common(count)
    ]
    head = f"{1e6 * profile.cpu_s / profile.steps:.0f} us of CPU in a step, {total} samples\n\n"
    return head + report.table(["function", "own, us/step", "with what it calls"], rows)


async def record(contender: Contender, output: Path, form: str, seconds: int) -> None:
    """Sample the contender. Raises ContenderFailed with what py-spy said."""
    process = await asyncio.create_subprocess_exec(
        spy(), "record", "--pid", str(contender.pid), "--output", str(output), "--format", form,
        "--duration", str(seconds), "--rate", str(RATE), "--nonblocking",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode:
        raise ContenderFailed(f"py-spy ended with {process.returncode}: {said.decode()[-800:]}")


async def profiled(asked: argparse.Namespace, database: Database, folder: Path) -> Profile:
    graph, raw = HOME / f"profile-{asked.workload}.svg", folder / "stacks"
    parameters = dict(ASKED[asked.workload])
    async with (
        database.fresh("bench_profile") as dsn,
        started(ours(asked.system), folder / asked.system, dsn) as contender,
    ):
        warm, _ = await contender.ask(asked.workload, parameters, [])
        if asked.workload in GROWS:
            wanted = parameters["executions"] * (asked.seconds + 2) / warm["seconds"]
            parameters["executions"] = max(parameters["executions"], int(wanted))
        for output, form in ((graph, "flamegraph"), (raw, "raw")):
            asking = asyncio.create_task(contender.ask(asked.workload, parameters, []))
            await record(contender, output, form, asked.seconds)
            answer, usage = await asking
    return Profile(parsed(raw.read_text()), answer["steps"], usage.cpu_s)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite.profile")
    parser.add_argument("--workload", choices=list(ASKED), default="chain10")
    parser.add_argument("--system", default="agentflow_strict")
    parser.add_argument("--seconds", type=int, default=8, help="of each of the two recordings")
    asked = parser.parse_args()
    spy()
    HOME.mkdir(exist_ok=True)
    with folder_of_its_own() as folder:
        database = Database(folder)
        try:
            profile = asyncio.run(profiled(asked, database, folder))
        finally:
            database.close()
    print(parts(profile) + "\n\n" + table(profile))
    print(f"The flame graph is .bench/profile-{asked.workload}.svg", file=sys.stderr)


if __name__ == "__main__":
    main()
