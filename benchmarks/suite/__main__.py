"""python -m benchmarks.suite"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks import core, startup
from benchmarks.peers import environments
from benchmarks.suite import on_ray, report
from benchmarks.suite.contender import Command, ours
from benchmarks.suite.database import Database, folder_of_its_own
from benchmarks.suite.rounds import RECOVERY, Asked, measure
from benchmarks.suite.workloads import Workload, workloads

Json = Any
OURS = ("limits", "asyncio_floor", "agentflow_strict", "agentflow_relaxed")
ON_RAY = ("agentflow_ray", "ray_actors", "agentflow_http", "bare_serve")
BESIDE_PEERS = ("ray_tasks",)
RESULT = Path(__file__).parents[2] / ".bench" / "result.json"


def known() -> dict[str, Command]:
    """Every contender by its name."""
    found = {name: ours(name) for name in (*OURS, *ON_RAY, *BESIDE_PEERS)}
    for name, peer in environments.PEERS.items():
        found[name] = Command(name, peer.arguments)
    return found


def chosen(asked: argparse.Namespace) -> tuple[list[Command], dict[str, str]]:
    """The contenders of this run, and those that are left out, with the command that brings them."""
    commands = known()
    others = [*BESIDE_PEERS, *environments.PEERS] if asked.peers else []
    names = asked.systems or [*OURS, *ON_RAY, *others]
    if unknown := [name for name in names if name not in commands]:
        raise SystemExit(f"Unknown: {', '.join(unknown)}. There are {', '.join(commands)}.")
    found, left_out = [], {}
    for name in names:
        peer = environments.PEERS.get(name)
        if peer is not None and (why := environments.missing(peer)):
            left_out[name] = why
            print(f"{name} is left out: {why}", file=sys.stderr)
        else:
            found.append(commands[name])
    return found, left_out


def chosen_workloads(asked: argparse.Namespace) -> tuple[list[Workload], bool]:
    """The workloads of this run, and whether recovery is one of them."""
    every = workloads(asked.full)
    if not asked.workloads:
        return every, True
    wanted = [each for each in every if each.name.startswith(tuple(asked.workloads))]
    kills = RECOVERY in asked.workloads
    if not wanted and not kills:
        names = ", ".join([*(each.name for each in every), RECOVERY])
        raise SystemExit(f"No workload begins with {asked.workloads}. There are {names}.")
    return wanted, kills


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite")
    parser.add_argument("--peers", action="store_true", help="the others too")
    parser.add_argument("--systems", nargs="*", help="only these contenders")
    parser.add_argument(
        "--workloads", nargs="*", help="only these; the beginning of a name will do"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=1.5, help="of a request that can be longer"
    )
    parser.add_argument("--full", action="store_true", help="growth over its whole ranges")
    parser.add_argument("--report", type=Path, help="write the tables into this page too")
    parser.add_argument("--shown", type=Path, help="measure nothing: show the figures of this JSON")
    parser.add_argument("--result", type=Path, default=RESULT, help="the figures as JSON")
    return parser.parse_args(arguments)


def run(asked: argparse.Namespace) -> Json:
    """Measure. The result, as JSON has it."""
    wanted, kills = chosen_workloads(asked)
    commands, left_out = chosen(asked)
    to_do = Asked(commands, wanted, asked.rounds, asked.seconds, kills, left_out)
    with folder_of_its_own() as folder:
        database = Database(folder)
        try:
            found = asyncio.run(measure(to_do, database, folder, lambda kept: keep(asked, kept)))
        finally:
            database.close()
    if kills and any(command.name == "agentflow_ray" for command in commands):
        on_ray.add(found, 2 * asked.rounds)
    whole = not (asked.systems or asked.workloads)
    alone = [*core.figures(), *startup.figures()] if whole else []
    return keep(asked, {**found, "alone": alone})


def keep(asked: argparse.Namespace, found: Json) -> Json:
    """Write down what there is; a run that is broken off keeps its whole rounds (see ``--shown``)."""
    result = {"full": asked.full, "alone": [], **found}
    asked.result.parent.mkdir(parents=True, exist_ok=True)
    asked.result.write_text(json.dumps(result, indent=1, default=str))
    return result


def main() -> None:
    asked = parsed()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    result = json.loads(asked.shown.read_text()) if asked.shown else run(asked)
    print(report.markdown(result))
    print(f"The figures are in {asked.shown or asked.result}.", file=sys.stderr)
    if asked.report:
        report.write_into(asked.report, result)


if __name__ == "__main__":
    main()
