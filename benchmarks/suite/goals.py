"""What is to be reached: for each figure the best seen elsewhere, its limit, its floor and its goal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

Medians = Mapping[str, Mapping[str, Mapping[str, float]]]
"""workload -> contender -> figure -> median."""
STRICT, RELAXED, RAY = "agentflow_strict", "agentflow_relaxed", "agentflow_ray"
RESTATE = "restate"


class Missing(Exception):
    """A figure that a bound is made of was not measured in this run; the text names it."""


class Run:
    """The medians of a run, asked for one by one."""

    def __init__(self, medians: Medians) -> None:
        self._medians = medians

    def __call__(self, contender: str, workload: str, figure: str) -> float:
        """A median. Raises Missing."""
        try:
            return self._medians[workload][contender][figure]
        except KeyError:
            raise Missing(f"{workload} of {contender}") from None


Bound = Callable[[Run], float]


@dataclass(frozen=True)
class Aim:
    """One figure of ours and what it is held against. ``more``: larger is better. Without a floor or a
    goal it stands beside its limit alone."""

    name: str
    unit: str
    value: Bound
    limit: Bound
    limit_is: str
    floor: Bound | None = None
    floor_is: str = ""
    goal: Bound | None = None
    goal_is: str = ""
    more: bool = False


class Line(NamedTuple):
    """An aim and what came out; a value or a bound is None where what it is made of was not measured."""

    aim: Aim
    value: float | None
    limit: float | None
    floor: float | None
    goal: float | None
    missing: tuple[str, ...]

    def reached(self, bound: float | None) -> bool | None:
        if bound is None or self.value is None:
            return None
        return self.value >= bound if self.aim.more else self.value <= bound


def _restate(workload: str, figure: str, times: float) -> Bound:
    return lambda run: times * run(RESTATE, workload, figure)


def _fixed(value: float) -> Bound:
    return lambda run: value


def _commit_ms(run: Run) -> float:
    return run("limits", "commits", "commit_ms")


def _rows_64(run: Run) -> float:
    return run("limits", "rows/64", "rows_per_s")


def _per_step(contender: str) -> Bound:
    """Steps a second that the database's rows a second leave to the rows that a step was seen to take."""
    return lambda run: _rows_64(run) / run(contender, "chain10/64", "rows_per_step")


def _chain_goal(run: Run) -> float:
    """The nearer of the two that the goal names."""
    bounds = [0.6 * _rows_64(run)]
    try:
        bounds.append(10 * run(RESTATE, "chain10/64", "steps_per_s"))
    except Missing:
        pass
    return min(bounds)


def _growth(what: str, small: int, large: int) -> Bound:
    def ratio(run: Run) -> float:
        figure = "cpu_us_per_step"
        beginning = run(STRICT, f"growth/{what}/{small}", figure)
        return run(STRICT, f"growth/{what}/{large}", figure) / beginning

    return ratio


def _grows(what: str, small: int, large: int) -> Aim:
    return Aim(
        f"growth, {small:,} to {large:,} {what}, CPU per step", "x", _growth(what, small, large),
        _fixed(1.0), "linear",
        _fixed(1.3), "1.3 x", _fixed(1.1), "1.1 x",
    )  # fmt: skip


def aims(full: bool) -> tuple[Aim, ...]:
    """Every figure that is held against something. ``full``: over the whole ranges of growth."""
    sizes = (10_000, 10_000, 1_000_000) if full else (1_000, 1_000, 100_000)
    return (
        Aim(
            "chain10, 64 in flight, strict, in-process", "steps/s",
            lambda run: run(STRICT, "chain10/64", "steps_per_s"),
            _per_step(STRICT), "rows/s of the database in batches of 64 / rows of a step",
            _restate("chain10/64", "steps_per_s", 4), "4 x Restate",
            _chain_goal, "0.6 x those rows/s, or 10 x Restate", more=True,
        ),
        Aim(
            "chain10, 64 in flight, strict, through Ray workers", "steps/s",
            lambda run: run(RAY, "chain10/64", "steps_per_s"),
            lambda run: run("ray_actors", "chain10/64", "steps_per_s"), "raw Ray actor calls",
            _restate("chain10/64", "steps_per_s", 2), "2 x Restate",
            _restate("chain10/64", "steps_per_s", 5), "5 x Restate", more=True,
        ),
        Aim(
            "chain10, 64 in flight, relaxed, in-process", "steps/s",
            lambda run: run(RELAXED, "chain10/64", "steps_per_s"),
            _per_step(RELAXED), "rows/s of the database in batches of 64 / rows of a step",
            _restate("chain10/64", "steps_per_s", 10), "10 x Restate",
            _restate("chain10/64", "steps_per_s", 20), "20 x Restate", more=True,
        ),
        Aim(
            "chain10, one execution, strict, p50", "ms",
            lambda run: run(STRICT, "chain10/1", "p50_ms"),
            lambda run: 11 * _commit_ms(run), "eleven commits",
            lambda run: 1.2 * 11 * _commit_ms(run), "1.2 x eleven commits",
            lambda run: 1.2 * 11 * _commit_ms(run), "1.2 x eleven commits",
        ),
        Aim(
            "chain10, one execution, relaxed, p50", "ms",
            lambda run: run(RELAXED, "chain10/1", "p50_ms"),
            lambda run: 2 * _commit_ms(run), "two commits",
            lambda run: 2 * _commit_ms(run) + 4.0, "two commits + 4 ms",
            lambda run: 2 * _commit_ms(run) + 1.5, "two commits + 1.5 ms",
        ),
        Aim(
            "fan100, one execution, strict, p50", "ms",
            lambda run: run(STRICT, "fan100/1", "p50_ms"),
            lambda run: 4 * _commit_ms(run), "four commits",
            _restate("fan100/1", "p50_ms", 0.5), "0.5 x Restate",
            _restate("fan100/1", "p50_ms", 0.2), "0.2 x Restate",
        ),
        Aim(
            "fan100, 4 in flight, strict", "steps/s",
            lambda run: run(STRICT, "fan100/4", "steps_per_s"),
            lambda run: run("limits", "rows/200", "rows_per_s"), "rows/s in batches of 200",
            _restate("fan100/4", "steps_per_s", 2.5), "2.5 x Restate",
            _restate("fan100/4", "steps_per_s", 6), "6 x Restate", more=True,
        ),
        Aim(
            "uneven, makespan / critical path, strict", "x",
            lambda run: run(STRICT, "uneven", "makespan_ratio"),
            lambda run: run("asyncio_floor", "uneven", "makespan_ratio"), "asyncio alone",
            _fixed(1.03), "1.03", _fixed(1.01), "1.01",
        ),
        Aim(
            "llm-fan, makespan, strict", "s",
            lambda run: run(STRICT, "llm_fan", "makespan_s"),
            lambda run: run("asyncio_floor", "llm_fan", "makespan_s"), "asyncio alone",
            _fixed(1.12), "1.12 s", _fixed(1.05), "1.05 s",
        ),
        Aim(
            "llm-fan, CPU with the database, strict", "s",
            lambda run: run(STRICT, "llm_fan", "cpu_s"),
            lambda run: run("asyncio_floor", "llm_fan", "cpu_s"), "asyncio alone",
            _restate("llm_fan", "cpu_s", 1), "Restate's", _fixed(0.2), "0.2 s",
        ),
        Aim(
            "payload, relaxed, p50", "ms",
            lambda run: run(RELAXED, "payload", "p50_ms"),
            lambda run: run("asyncio_floor", "payload", "p50_ms"), "asyncio alone",
            lambda run: run("ray_actors", "payload", "p50_ms"), "1.0 x raw Ray actors",
            lambda run: 0.5 * run("ray_actors", "payload", "p50_ms"), "0.5 x raw Ray actors",
        ),
        Aim(
            "payload, strict, p50", "ms",
            lambda run: run(STRICT, "payload", "p50_ms"),
            lambda run: run("limits", "disk", "payload_ms"), "the disk's time for the same bytes",
        ),
        Aim(
            "recovery with a standby, in-process, kill to next step", "s",
            lambda run: run(STRICT, "recovery", "to_next_step_s"),
            lambda run: 1e-3 * _commit_ms(run), "one commit",
            _fixed(0.5), "0.5 s", _fixed(0.2), "0.2 s",
        ),
        Aim(
            "recovery through Ray, a coordinator killed, to the next call", "s",
            lambda run: run(RAY, "recovery", "to_next_step_s"),
            lambda run: 1e-3 * _commit_ms(run), "one commit",
            _fixed(1.5), "1.5 s", _fixed(1.0), "1.0 s",
        ),
        Aim(
            "recovery through Ray, a worker killed, to the next call", "s",
            lambda run: run(RAY, "recovery", "worker_to_next_step_s"),
            lambda run: 1e-3 * _commit_ms(run), "one commit",
            _fixed(1.5), "1.5 s", _fixed(1.0), "1.0 s",
        ),
        Aim(
            "recovery, finished steps done again", "steps",
            lambda run: run(STRICT, "recovery", "finished_steps_repeated"),
            _fixed(0.0), "none", _fixed(0.0), "none", _fixed(0.0), "none",
        ),
        Aim(
            "memory per execution in flight, strict", "KiB",
            lambda run: run(STRICT, "memory", "kib_per_execution"),
            lambda run: run("asyncio_floor", "memory", "kib_per_execution"), "a task of asyncio",
            _fixed(6.0), "6 KiB", _fixed(4.0), "4 KiB",
        ),
        Aim(
            "http, 3 inline steps, wait", "requests/s",
            lambda run: run("agentflow_http", "http", "requests_per_s"),
            lambda run: run("bare_serve", "http", "requests_per_s"), "a bare Serve application",
            lambda run: 0.3 * run("bare_serve", "http", "requests_per_s"), "0.3 x bare Serve",
            lambda run: 0.5 * run("bare_serve", "http", "requests_per_s"), "0.5 x bare Serve",
            more=True,
        ),
        _grows("nodes", 10, sizes[0]),
        _grows("in_flight", 10, sizes[1]),
        _grows("history", 0, sizes[2]),
    )  # fmt: skip


def judged(medians: Medians, full: bool) -> list[Line]:
    """Each aim with its bounds; what falls short of its floor comes first, what was not measured last."""
    run, found = Run(medians), []
    for aim in aims(full):
        missing: list[str] = []
        told: list[float | None] = []
        for bound in (aim.value, aim.limit, aim.floor, aim.goal):
            try:
                told.append(None if bound is None else bound(run))
            except Missing as what:
                told.append(None)
                missing.append(str(what))
        found.append(Line(aim, *told, tuple(dict.fromkeys(missing))))
    return sorted(found, key=_rank)


def _rank(line: Line) -> int:
    if line.value is None:
        return 4
    floor, goal = line.reached(line.floor), line.reached(line.goal)
    if floor is False:
        return 0
    if goal is False:
        return 1
    return 2 if floor is None or goal is None else 3
