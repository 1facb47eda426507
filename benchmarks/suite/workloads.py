"""What is measured: which requests a contender gets, and which figures come of its answers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.suite.usage import Usage

Json = Any
CRITICAL_PATH_S = 0.65
"""Of the uneven workload: one slow step and five others."""


class Sample(NamedTuple):
    """A request that was answered, and what everybody used meanwhile."""

    answer: Json
    usage: Usage


Figures = Mapping[str, float]


@dataclass(frozen=True)
class Workload:
    """One request. ``asked``: its name in the protocol; ``fills``: the parameter that is made larger until
    the request takes about as long as is wanted; ``warm``: the parameters of the request before it,
    and ``warm_asked`` its name where it is another one;
    ``apart``: workloads of the same word get a contender started for them alone, on an empty database, so
    that what others left in memory or in tables is no part of the figure."""

    name: str
    asked: str
    parameters: Mapping[str, Json]
    figures: Callable[[Sample], Figures]
    fills: str = ""
    most: int = 0
    warm: Mapping[str, Json] | None = None
    only: Sequence[str] = field(default=())
    apart: str = ""
    warm_asked: str = ""

    def warm_up(self) -> Json:
        return dict(self.parameters if self.warm is None else {**self.parameters, **self.warm})

    def sized(self, warmed_s: float, wanted_s: float) -> Json:
        """The parameters that take about as long as wanted, by how long warming up took."""
        parameters = dict(self.parameters)
        if self.fills:
            unit = self.warm_up()[self.fills]
            count = int(unit * wanted_s / max(warmed_s, 1e-6))
            parameters[self.fills] = min(max(parameters[self.fills], count), self.most)
        return parameters


def is_void(answer: Json) -> str:
    """Why a row does not count: what should have been done is not what the contender's store holds."""
    persisted, steps = answer.get("persisted"), answer.get("steps")
    if persisted is None or persisted == steps:
        return ""
    return f"void: {persisted} steps persisted of {steps}"


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _costs(sample: Sample) -> dict[str, float]:
    """CPU milliseconds of a step, of the contender with the database, and of the database alone."""
    steps = sample.answer["steps"]
    return {
        "cpu_ms_per_step": 1e3 * (sample.usage.cpu_s + sample.usage.database_s) / steps,
        "database_cpu_ms_per_step": 1e3 * sample.usage.database_s / steps,
    }


def _latency(sample: Sample) -> Figures:
    values = sample.answer["latencies_s"]
    return {
        "p50_ms": 1e3 * statistics.median(values),
        "p99_ms": 1e3 * percentile(values, 0.99),
        **_costs(sample),
    }


def _rate(sample: Sample) -> Figures:
    answer = sample.answer
    figures = {"steps_per_s": answer["steps"] / answer["seconds"], **_costs(sample)}
    if answer.get("transactions"):
        figures["rows_per_commit"] = answer["rows"] / answer["transactions"]
        figures["rows_per_step"] = answer["rows"] / answer["steps"]
    return figures


def _uneven(sample: Sample) -> Figures:
    makespan = statistics.median(sample.answer["latencies_s"])
    return {"makespan_ratio": makespan / CRITICAL_PATH_S}


def _llm_fan(sample: Sample) -> Figures:
    return {
        "makespan_s": sample.answer["seconds"],
        "cpu_s": sample.usage.cpu_s + sample.usage.database_s,
    }


def _payload(sample: Sample) -> Figures:
    return {"p50_ms": 1e3 * statistics.median(sample.answer["latencies_s"])}


def _memory(in_flight: int) -> Callable[[Sample], Figures]:
    return lambda sample: {
        "kib_per_execution": sample.usage.grown_bytes / 1024 / in_flight,
        "peak_mb": sample.usage.peak_bytes / 1e6,
    }


def _told(sample: Sample) -> Figures:
    """Figures that the contender measured itself."""
    return sample.answer["figures"]


def _http(sample: Sample) -> Figures:
    answer = sample.answer
    return {
        "requests_per_s": answer["requests"] / answer["seconds"],
        "p50_ms": 1e3 * statistics.median(answer["latencies_s"]),
    }


def _growth(sample: Sample) -> Figures:
    used = sample.usage.cpu_s + sample.usage.database_s
    return {"cpu_us_per_step": 1e6 * used / sample.answer["steps"]}


def _frozen(**parameters: Json) -> Mapping[str, Json]:
    return MappingProxyType(parameters)


ENGINES = ("agentflow_strict", "agentflow_relaxed")
GROWTH = {"nodes": (10, 1_000), "in_flight": (10, 1_000), "history": (0, 100_000)}
"""What grows, from where to where, in the short set."""
GROWTH_IN_FULL = {"nodes": (10, 10_000), "in_flight": (10, 10_000), "history": (0, 1_000_000)}


def _growths(ranges: Mapping[str, tuple[int, int]]) -> list[Workload]:
    return [
        Workload(
            f"growth/{what}/{size}",
            "growth",
            _frozen(what=what, size=size),
            _growth,
            warm={"steps": 0},
            only=("agentflow_strict",),
            apart=f"growth/{what}",
        )
        for what, sizes in ranges.items()
        for size in sizes
    ]


def workloads(full: bool = False) -> list[Workload]:
    """Every workload but recovery, which kills; in the order in which a contender gets them."""
    in_flight = 2000
    return [
        Workload(
            "chain10/1", "chain10", _frozen(executions=30, in_flight=1), _latency,
            fills="executions", most=300, warm={"executions": 5},
        ),
        Workload(
            "chain10/64", "chain10", _frozen(executions=64, in_flight=64), _rate,
            fills="executions", most=20_000, warm={"executions": 64},
        ),
        Workload(
            "fan100/1", "fan100", _frozen(executions=10, in_flight=1), _latency,
            fills="executions", most=100, warm={"executions": 2},
        ),
        Workload(
            "fan100/4", "fan100", _frozen(executions=8, in_flight=4), _rate,
            fills="executions", most=2_000, warm={"executions": 4},
        ),
        Workload("uneven", "uneven", _frozen(rounds=3), _uneven, warm={"rounds": 1}),
        Workload(
            "llm_fan", "llm_fan", _frozen(executions=5, width=200, step_s=1.0), _llm_fan,
            warm={"executions": 1},
        ),
        Workload(
            "payload", "payload", _frozen(executions=10), _payload,
            fills="executions", most=50, warm={"executions": 2},
        ),
        Workload(
            "memory", "memory", _frozen(in_flight=in_flight), _memory(in_flight),
            warm={"executions": 128, "in_flight": 64}, warm_asked="chain10", apart="memory",
        ),
        Workload(
            "http", "http", _frozen(requests=200, at_once=32), _http,
            fills="requests", most=20_000, warm={"requests": 64},
            only=("agentflow_http", "bare_serve"),
        ),
        Workload(
            "http/inner", "http", _frozen(requests=200, at_once=32, inner=True), _http,
            fills="requests", most=20_000, warm={"requests": 64},
            only=("bare_serve",),
        ),
        *_growths(GROWTH_IN_FULL if full else GROWTH),
    ]  # fmt: skip


LIMITS = (
    Workload("commits", "commits", _frozen(seconds=2.0), _told, warm={"seconds": 0.2}),
    Workload("rows/20", "rows", _frozen(seconds=2.0, batch=20), _told, warm={"seconds": 0.2}),
    Workload("rows/64", "rows", _frozen(seconds=2.0, batch=64), _told, warm={"seconds": 0.2}),
    Workload("rows/200", "rows", _frozen(seconds=2.0, batch=200), _told, warm={"seconds": 0.2}),
    Workload("switches", "switches", _frozen(seconds=1.0), _told, warm={"seconds": 0.2}),
    Workload("disk", "disk", _frozen(rounds=10), _told, warm={"rounds": 1}),
)
"""What the machine can do at best, asked of the contender ``limits``."""
