"""Judges a history by the rules, and asks of each repeated call which fault was its cause."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator

import msgspec

from tests.campaign import outside_rules as outside
from tests.campaign import rules
from tests.campaign.history import Call, Fault, History, Noted
from tests.campaign.rules import CLOCK_S, Record, ended_sender

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


RULES: tuple[tuple[str, Callable[[Record], Iterator[str]]], ...] = (
    ("what was acknowledged is kept, and ends", rules.acknowledged_are_kept),
    ("client, row and journal agree on the end", rules.answers_agree),
    ("the journal has no gaps", rules.no_gaps),
    ("a step ends once", rules.one_end_per_step),
    ("nothing happens after the end", rules.nothing_after_the_end),
    ("only the owner writes", rules.only_the_owner_writes),
    ("one key per step", rules.one_key_per_step),
    ("commit before call", rules.commit_before_call),
    ("a call is told only what is committed", rules.told_only_what_is_committed),
    ("a result is an answer of the provider", rules.results_are_answers),
    ("the output is the last step's result", rules.results_have_calls),
    ("an execution ends as it should", rules.ends_as_it_should),
    ("what is committed is not called again", rules.nothing_after_completion),
    ("nothing is called after a cancellation", rules.nothing_after_cancellation),
    ("a large value is there before its name", rules.blobs_come_first),
    ("once is at most once", rules.once_is_once),
    ("a service does each thing once", outside.effects_are_once),
    ("a write is made once", outside.writes_are_once),
    ("no write is lost", outside.no_write_is_lost),
    ("a write follows its intent", outside.writes_follow_their_intent),
    ("a read sees what was written", outside.reads_see_writes),
    ("an answer that was acknowledged is taken, once", outside.answers_are_kept),
    ("a wait goes on with what was given before", outside.answers_come_before),
    ("a timer is not early", outside.timers_are_not_early),
)

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
            if former.refused or former.hung_up:
                continue
            first, second = (again, former) if record.sent_before(again) else (former, again)
            cause = _cause(record, first, second)
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
    if ended_sender(fault, call):
        return True
    if not fault.hit or fault.at > until or fault.until + linger_s < call.began:
        return False
    return fault.everything or call.pid in fault.pids or execution in fault.executions


def of_kind(noted: list[Noted], status: str) -> int:
    return sum(each.status == status for each in noted)
