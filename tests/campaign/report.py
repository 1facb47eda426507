"""What a campaign found, in Markdown; written between two marks of a document."""

from __future__ import annotations

import datetime
import os
import platform
from collections import defaultdict
from pathlib import Path

import msgspec

from tests.campaign.checker import Verdict, of_kind
from tests.campaign.faults import Fault
from tests.campaign.history import History, Row
from tests.campaign.world import HEARTBEAT_S, LEASE_S

BEGIN, END = "<!-- campaign -->", "<!-- /campaign -->"
LONG_MINUTES = 60
SHOWN = 20


class Caught(msgspec.Struct, frozen=True):
    """How a deliberately broken build was found out: the rules it broke, after so many faults."""

    build: str
    rules: tuple[str, ...]
    faults: int
    seconds: float


class Outcome(msgspec.Struct, kw_only=True):
    """A campaign that is over."""

    minutes: float
    seed: int
    history: History
    verdict: Verdict
    caught: list[Caught] = []
    commit: str = ""
    restarts: int = 0

    @property
    def hit(self) -> list[Fault]:
        return [fault for fault in self.history.faults if fault.hit]


def markdown(outcome: Outcome) -> str:
    """The whole report."""
    parts = [_headline(outcome), _figures(outcome), _faults(outcome), _recovery(outcome)]
    if outcome.caught:
        parts.append(_caught(outcome.caught))
    if outcome.verdict.violations:
        parts.append(_violations(outcome.verdict))
    return "\n\n".join(parts) + "\n"


def put(path: Path, text: str) -> None:
    """Write it between the marks; into a new file where there is none yet."""
    if not path.exists():
        path.write_text(text)
        return
    document = path.read_text()
    before, _, rest = document.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        path.write_text(text)
        return
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


def _headline(outcome: Outcome) -> str:
    hit, kinds = outcome.hit, {fault.kind for fault in outcome.hit}
    broken = len(outcome.verdict.violations)
    claim = f"{broken} violations" if broken else f"no violation in {len(hit)} faults"
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"
    lines = [
        f"**{claim[0].upper()}{claim[1:]}** of {len(kinds)} kinds that hit, in {outcome.minutes:.0f} "
        f"minutes ({day}; {machine}; seed {outcome.seed}; lease {LEASE_S:g} s, heartbeat "
        f"{HEARTBEAT_S:g} s; everything on this one machine)."
    ]
    if outcome.minutes < LONG_MINUTES:
        lines.append("A campaign this short claims no more than that.")
    return "\n".join(lines)


def _figures(outcome: Outcome) -> str:
    history, verdict = outcome.history, outcome.verdict
    noted = history.noted
    started = sum(row.kind == "step.started" for row in history.rows)
    done = sum(row.kind == "step.completed" for row in history.rows)
    lost = sum(v.rule.startswith("what was acknowledged") for v in verdict.violations)
    twice = sum(v.rule == "a step ends once" for v in verdict.violations)
    repeats = sum(verdict.repeats.values())
    causes = ", ".join(f"{kind} {count}" for kind, count in sorted(verdict.repeats.items()))
    after = sum(v.rule == "what is committed is not called again" for v in verdict.violations)
    ends = ", ".join(
        f"{of_kind(noted, status)} {status}" for status in ("completed", "failed", "cancelled")
    )
    rows = [
        ("executions acknowledged", f"{len(noted)} ({ends})"),
        ("acknowledged executions lost", lost),
        ("attempts started, steps completed", f"{started}, {done}"),
        ("calls that model and HTTP service got", len(history.calls)),
        ("calls repeated after their result was committed", after),
        ("calls repeated at all", f"{repeats} ({causes})" if causes else repeats),
        ("calls in flight at the faults", verdict.in_flight),
        ("calls that a stopped process sent late, for work done meanwhile", verdict.thawed),
        (
            "things the HTTP service did, writes in the other database",
            f"{len(history.effects)}, {len(history.writes)}",
        ),
        ("answers and signals acknowledged, refused, unheard", _answers(history)),
        ("duplicate terminal events", twice),
        ("writes of stale owners refused by the database", history.fenced),
        ("quarantined and released", sum(each.released for each in noted)),
        ("starts of the whole system", outcome.restarts),
    ]
    return _table(("figure", "value"), rows)


def _answers(history: History) -> str:
    kept = sum(answer.status == 200 for answer in history.answers)
    unheard = sum(answer.status is None for answer in history.answers)
    return f"{kept}, {len(history.answers) - kept - unheard}, {unheard}"


def _faults(outcome: Outcome) -> str:
    tried: dict[str, list[Fault]] = defaultdict(list)
    for fault in outcome.history.faults:
        tried[fault.kind].append(fault)
    rows = [(kind, len(f), sum(x.hit for x in f)) for kind, f in sorted(tried.items())]
    rows.append(("all", len(outcome.history.faults), len(outcome.hit)))
    return _table(("fault", "tried", "hit"), rows)


def _recovery(outcome: Outcome) -> str:
    spans = progress(outcome.history)
    rows = [
        (kind, len(found), *(f"{quantile(found, q):.2f}" for q in (0.5, 0.99, 1.0)))
        for kind, found in sorted(spans.items())
    ]
    text = (
        "From a fault to the next row in the journal of each execution that it hit, in seconds "
        "(calls of the provider take up to 0.4 s, of slow steps 2 and 4 s, and retries wait):"
    )
    return f"{text}\n\n{_table(('fault', 'executions', 'p50', 'p99', 'longest'), rows)}"


def progress(history: History) -> dict[str, list[float]]:
    """Kind of fault -> seconds until each execution that it hit went on."""
    journal: dict[str, list[Row]] = defaultdict(list)
    for row in history.rows:
        journal[row.execution].append(row)
    spans: dict[str, list[float]] = defaultdict(list)
    for fault in history.faults:
        hit = {*fault.executions, *(history.kinds.get(tag, ("",))[0] for tag in fault.tags)}
        for execution in hit - {""} if fault.hit else ():
            before = [row.kind for row in journal[execution] if row.at <= fault.at]
            if before and before[-1] == "execution.waiting":
                continue  # what it waits for is up to the client
            after = [row.at for row in journal[execution] if row.at > fault.at]
            if after:
                spans[fault.kind].append(min(after) - fault.at)
    return spans


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _caught(caught: list[Caught]) -> str:
    rows = [
        (
            each.build,
            "; ".join(each.rules) or "**not caught**",
            each.faults,
            f"{each.seconds:.0f} s",
        )
        for each in caught
    ]
    text = "Deliberately broken builds, judged by the same rules:"
    return f"{text}\n\n{_table(('build', 'caught by', 'after faults', 'within'), rows)}"


def _violations(verdict: Verdict) -> str:
    by_rule: dict[str, list[str]] = defaultdict(list)
    for violation in verdict.violations:
        by_rule[violation.rule].append(violation.what)
    lines = ["Violations:", ""]
    for rule, what in by_rule.items():
        lines.append(f"- {rule}: {len(what)}")
        lines += [f"  - {each}" for each in what[:SHOWN]]
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
