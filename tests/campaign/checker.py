"""Judges a history by the rules, and asks of each repeated call which fault was its cause."""

from __future__ import annotations

import itertools
from collections import defaultdict

import msgspec

from tests.campaign.history import Call, Fault, History, Noted
from tests.campaign.rules import CLOCK_S, RULES, Record

LINGER_S = 12.0
"""How long after its end a fault may still be the cause of a repeated call: a lease, and its burial."""


class Violation(msgspec.Struct, frozen=True):
    """A broken promise."""

    rule: str
    what: str


class Verdict(msgspec.Struct, kw_only=True):
    violations: list[Violation] = []
    repeats: dict[str, int] = {}
    """Cause -> calls that were made again."""
    in_flight: int = 0
    """Calls that were open when a fault met them."""
    thawed: int = 0
    """Calls that a stopped process sent off after it went on, for work that was done meanwhile."""


REPEATS = "a repeated call was in flight at a fault"
ADOPTED = "what a living worker does is adopted"


def judge(history: History, strict_adoption: bool = False) -> Verdict:
    """Every rule over a history. ``strict_adoption``: the death of a coordinator alone is no reason for
    a call to be made again."""
    record = Record(history)
    found = [Violation(name, what) for name, rule in RULES for what in rule(record)]
    verdict = Verdict(violations=found)
    _repeats(record, verdict, strict_adoption)
    for (tag, step), calls in record.calls.items():
        end = record.end(record.of(tag)[0], step)
        verdict.thawed += sum(
            end is not None and call.began > end.at + CLOCK_S and record.thawed(call)
            for call in calls
        )
    return verdict


def _repeats(record: Record, verdict: Verdict, strict_adoption: bool) -> None:
    causes: dict[str, int] = defaultdict(int)
    met: set[int] = set()
    for (tag, step), calls in record.calls.items():
        for former, again in itertools.pairwise(calls):
            if former.refused:
                continue
            cause = _cause(record, former, again)
            causes[cause or "none"] += 1
            if cause is None:
                what = f"{tag}: {step} was called again after {again.began - former.began:.1f} s"
                verdict.violations.append(Violation(REPEATS, f"{what}, and no fault had met it"))
            elif strict_adoption and cause.startswith("coordinator"):
                what = f"{tag}: {step} was called again though its worker lived"
                verdict.violations.append(Violation(ADOPTED, what))
    for call in record.history.calls:
        execution, _ = record.of(call.tag)
        end = record.end(execution, call.step) if execution else None
        last = end.at if end is not None else call.ended or call.began
        if any(_meets(f, call, execution, last) for f in record.faults):
            met.add(call.id)
    verdict.repeats, verdict.in_flight = dict(causes), len(met)
    made = sum(causes.values())
    if made > len(met):
        what = f"{made} calls were repeated, {len(met)} were in flight at the faults"
        verdict.violations.append(Violation(REPEATS, what))


def _cause(record: Record, former: Call, again: Call) -> str | None:
    """The kind of the fault that met a call before it was made again; of a worker rather than of a
    coordinator, since the former alone needs a repetition."""
    execution, _ = record.of(former.tag)
    found = [f for f in record.faults if _meets(f, former, execution, again.began, LINGER_S)]
    found.sort(key=lambda f: (former.pid not in f.pids, f.kind.startswith("coordinator")))
    return found[0].kind if found else None


def _meets(fault: Fault, call: Call, execution: str, until: float, linger_s: float = 0.0) -> bool:
    if not fault.hit or fault.at > until or fault.until + linger_s < call.began:
        return False
    return fault.everything or call.pid in fault.pids or execution in fault.executions


def of_kind(noted: list[Noted], status: str) -> int:
    return sum(each.status == status for each in noted)
