"""Every promise of the engine as a rule over what others saw of it.

Nothing here uses the engine's own code. A rule gives sentences, one for each time it was broken.
"""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Iterator

from tests.campaign.faults import Fault
from tests.campaign.history import SHOWN, Call, History, Row

TERMINAL_STEP = frozenset(
    f"step.{name}" for name in ("completed", "failed", "skipped", "cancelled", "timed_out")
)
TERMINAL = frozenset(
    f"execution.{name}" for name in ("completed", "failed", "cancelled", "timed_out")
)
OVER = frozenset(name.partition(".")[2] for name in TERMINAL)
GRACE_S = 2.0
"""How soon after it was committed a cancellation takes effect."""
CLOCK_S = 0.005
"""All clocks are of one machine; this much their readings may differ."""
THAW_S = 3.0
"""How long after it was stopped a process may take to notice that its work was given away."""


GONE_S = 2.0
"""How long what a killed process has sent may lie about before the ledger takes it."""


class Record:
    """A history with its indexes."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.journal: dict[str, list[Row]] = defaultdict(list)
        for row in history.rows:
            self.journal[row.execution].append(row)
        self.calls: dict[tuple[str, str], list[Call]] = defaultdict(list)
        self.by_tag: dict[str, list[Call]] = defaultdict(list)
        for call in sorted(history.calls, key=lambda call: call.began):
            self.calls[call.tag, call.step].append(call)
            self.by_tag[call.tag].append(call)
        self.tag_of = {execution: tag for tag, (execution, _) in history.kinds.items()}
        self.faults = [fault for fault in history.faults if fault.pids or fault.everything]

    def of(self, tag: str) -> tuple[str, str]:
        """(execution, kind of its workflow) of a tag; empty where it was never accepted."""
        return self.history.kinds.get(tag, ("", ""))

    def rows(self, execution: str, step: str, *kinds: str) -> list[Row]:
        return [r for r in self.journal[execution] if r.step == step and r.kind in kinds]

    def end(self, execution: str, step: str) -> Row | None:
        return next((r for r in self.journal[execution] if _ends(r, step)), None)

    def thawed(self, call: Call) -> bool:
        """It came from a process that had just been stopped for a while."""
        return any(
            fault.stopped
            and call.pid in fault.pids
            and fault.at < call.began < fault.until + THAW_S
            for fault in self.faults
        )

    def sent_before(self, call: Call) -> bool:
        """Its sender was gone when the ledger took it, so it was sent earlier than the ledger says."""
        return any(ended_sender(fault, call) for fault in self.faults)


def ended_sender(fault: Fault, call: Call) -> bool:
    """The ledger found nobody who sent this call, and the fault killed processes about then. Nobody may have
    known of the call, so that the fault was noted as a miss."""
    if call.pid or fault.stopped or not fault.pids:
        return False
    return fault.until > call.began - GONE_S and (call.ended is None or fault.at < call.ended)


def _ends(row: Row, step: str) -> bool:
    return row.step == step and row.kind in TERMINAL_STEP


def acknowledged_are_kept(record: Record) -> Iterator[str]:
    for noted in record.history.noted:
        status = record.history.statuses.get(noted.id)
        if noted.missing or status is None:
            yield f"{noted.id} was acknowledged and is not there"
        elif status not in OVER:
            yield f"{noted.id} ({noted.kind}) was acknowledged and never ends: it is {status}"
        elif noted.status is None:
            yield f"{noted.id} has ended as {status}, and the client was never told"


def answers_agree(record: Record) -> Iterator[str]:
    for noted in record.history.noted:
        if noted.status is None:
            continue
        ends = [r for r in record.journal[noted.id] if r.kind in TERMINAL]
        told = {noted.status, record.history.statuses.get(noted.id), *_last(ends)}
        if len(told) > 1:
            yield f"{noted.id} has ended in several ways: {sorted(map(str, told))}"


def _last(ends: list[Row]) -> list[str]:
    return [ends[-1].kind.partition(".")[2]] if ends else ["nothing in the journal"]


def no_gaps(record: Record) -> Iterator[str]:
    for execution, rows in record.journal.items():
        if [row.seq for row in rows] != list(range(1, len(rows) + 1)):
            yield f"{execution} has the rows {[row.seq for row in rows]}"


def one_end_per_step(record: Record) -> Iterator[str]:
    for execution, rows in record.journal.items():
        seen: set[tuple[str, int]] = set()
        for row in rows:
            if row.kind in TERMINAL_STEP:
                if (row.step, row.generation) in seen:
                    yield f"{execution}: {row.step} ends twice (seq {row.seq})"
                seen.add((row.step, row.generation))


def nothing_after_the_end(record: Record) -> Iterator[str]:
    for execution, rows in record.journal.items():
        over = False
        for row in rows:
            if over and row.kind == "execution.resumed":
                over = False
            elif over and row.kind != "step.late":
                yield f"{execution}: {row.kind} {row.step} after the end (seq {row.seq})"
            over = over or row.kind in TERMINAL


def only_the_owner_writes(record: Record) -> Iterator[str]:
    owners = defaultdict(list)
    for entry in record.history.owners:
        owners[entry.execution].append(entry)
    for execution, entries in owners.items():
        highest: dict[str, int] = {}
        for entry in entries:
            if entry.owner and (entry.epoch or 0) < highest.get(entry.owner, 0):
                yield f"{execution}: the epoch of {entry.owner} falls to {entry.epoch}"
            if entry.owner:
                highest[entry.owner] = entry.epoch or 0
        times = [entry.at for entry in entries]
        for row in record.journal.get(execution, ()):
            place = bisect.bisect_right(times, row.at) - 1
            owner = entries[max(0, place)]
            if row.epoch != owner.epoch:
                yield (
                    f"{execution}: seq {row.seq} ({row.kind}) was written with epoch {row.epoch} "
                    f"while {owner.owner} owned it with {owner.epoch}"
                )


def one_key_per_step(record: Record) -> Iterator[str]:
    of_key: dict[str, tuple[str, str]] = {}
    for (tag, step), calls in record.calls.items():
        keys = {call.key for call in calls}
        if len(keys) > 1 or "" in keys:
            yield f"{tag}: {step} was called with the keys {sorted(keys)}"
        for key in keys:
            if of_key.setdefault(key, (tag, step)) != (tag, step):
                yield f"the key {key} was used for {of_key[key]} and for {(tag, step)}"


def commit_before_call(record: Record) -> Iterator[str]:
    """The n-th call of a step comes after the commit of its n-th ``step.started``. In relaxed executions
    this holds for steps with effects once; there alone calls may run ahead."""
    for (tag, step), calls in record.calls.items():
        execution, kind = record.of(tag)
        if kind.startswith("relaxed") and not step.startswith("once"):
            continue
        started = sorted(row.at for row in record.rows(execution, step, "step.started"))
        for number, call in enumerate(calls):
            if number >= len(started) or call.began + CLOCK_S < started[number]:
                when = started[number] - call.began if number < len(started) else None
                told = "before no commit at all" if when is None else f"{when * 1000:.0f} ms early"
                yield f"{tag}: call {number + 1} of {step} left before its intent: {told}"


def told_only_what_is_committed(record: Record) -> Iterator[str]:
    for (tag, step), calls in record.calls.items():
        execution, kind = record.of(tag)
        expected = past_of(record, execution, kind, step)
        if expected is None:
            continue
        end = record.end(execution, step)
        for call in calls:
            used = end is not None and end.text == call.answer
            if call.past != expected and (used or not kind.startswith("relaxed")):
                yield f"{tag}: {step} was told {call.past!r}, what was committed is {expected!r}"


def past_of(record: Record, execution: str, kind: str, step: str) -> str | None:
    """What the journal says that came before a step; None where this rule does not look."""

    def said(name: str) -> str | None:
        rows = record.rows(execution, name, "step.completed")
        return None if not rows or rows[0].text is None else rows[0].text[:SHOWN]

    if step.startswith("ask@"):
        number = int(step.partition("@")[2])
        return "-" if number == 1 else said(f"ask@{number - 1}")
    if kind == "fan":
        parts = [said(name) for name in "lmr"] if step == "z" else None
        return None if parts is None or None in parts else "|".join(map(str, parts))[:SHOWN]
    order = CHAINS.get(kind)
    if not order or step not in order or step == order[0]:
        return None
    before = order[order.index(step) - 1]
    text = said(before)
    if text is not None and before in TABLES and step not in TABLES:
        return json.dumps(
            [{"said": text}], separators=(",", ":")
        )  # the rows, as a template shows them
    return text


CHAINS = {
    "chain": ("a", "b", "c"),
    "relaxed": ("a", "b", "c", "d"),
    "once": ("a", "once", "c"),
    "relaxed once": ("a", "once", "c"),
    "stubborn": ("a", "stubborn", "c"),
    "slow": ("a", "slow2", "slow4", "d"),
    "large": ("a", "large", "c"),
    "http": ("a", "post", "put", "d"),
    "once http": ("a", "once_post", "c"),
    "stubborn http": ("a", "stubborn_post", "c"),
    "stubborn once": ("a", "once_stubborn_post", "c"),
    "db": ("a", "write1", "read", "write2", "c"),
    "once db": ("a", "once_write", "c"),
    "human": ("a", "ask", "c"),
    "signals": ("a", "go1", "go2", "c"),
    "timer": ("a", "pause", "c"),
    "held": ("a", "held", "b", "c"),
    "relaxed held once": ("held", "once", "c"),
    "backoff": ("a", "stubborn"),
}
TABLES = ("write1", "write2", "once_write", "read")
"""Steps whose result is the rows of a table."""
LAST = {"fan": "z", "loop": "ask@3", **{kind: order[-1] for kind, order in CHAINS.items()}}


def results_are_answers(record: Record) -> Iterator[str]:
    for execution, rows in record.journal.items():
        tag = record.tag_of.get(execution, "")
        for row in rows:
            calls = record.calls.get((tag, row.step))
            if row.kind != "step.completed" or row.text is None or not calls:
                continue
            given = {call.answer for call in calls if call.complete and call.status == 200}
            if not any(row.text == each or row.text.startswith(f"{each}.x") for each in given):
                yield f"{execution}: {row.step} ended with {row.text[:60]!r}, which nobody answered"


def results_have_calls(record: Record) -> Iterator[str]:
    for noted in record.history.noted:
        last = LAST.get(noted.kind)
        if noted.status != "completed" or last is None:
            continue
        rows = record.rows(noted.id, last, "step.completed")
        if not rows or rows[0].text is None or rows[0].text not in noted.output:
            text = rows[0].text if rows else None
            yield f"{noted.id} ({noted.kind}) gave {noted.output[:80]!r}, its last step {text!r}"


def ends_as_it_should(record: Record) -> Iterator[str]:
    for noted in record.history.noted:
        errors = {"WorkerLost"}  # the third loss of one step ends it
        if "once" in noted.kind:
            errors.add("UnknownOutcome")
        if noted.kind in (
            "once http",
            "once db",
            "stubborn once",
        ):  # the connection broke, or nobody answered in time
            errors |= {"ProviderUnavailable", "CallTimeout"}
        error = (json.loads(noted.error) or {}).get("type")
        if noted.status == "failed" and error not in errors:
            yield f"{noted.id} ({noted.kind}) failed with {noted.error[:300]}"
        elif noted.status == "cancelled" and noted.cancel_asked is None:
            yield f"{noted.id} ({noted.kind}) was cancelled and nobody asked for it"
        elif noted.status == "timed_out":
            yield f"{noted.id} ({noted.kind}) timed out"


def nothing_after_completion(record: Record) -> Iterator[str]:
    for (tag, step), calls in record.calls.items():
        execution, _ = record.of(tag)
        end = record.end(execution, step)
        if end is None or end.kind == "step.cancelled":  # without a result: see the next rule
            continue
        # Of a step whose outcome is unknown the call may be on its way: its worker was given up.
        allowed_s = GRACE_S if end.error == "UnknownOutcome" else CLOCK_S
        for call in calls:
            late_s = call.began - end.at
            if late_s > allowed_s and not record.thawed(call) and not record.sent_before(call):
                late = late_s * 1000
                yield f"{tag}: {step} was called {late:.0f} ms after {end.kind} was committed"


def nothing_after_cancellation(record: Record) -> Iterator[str]:
    for execution, rows in record.journal.items():
        ended = next((r.at for r in rows if r.kind == "execution.cancelled"), None)
        tag = record.tag_of.get(execution, "")
        for call in record.by_tag[tag] if ended is not None else ():
            if call.began > ended + GRACE_S and not record.thawed(call):
                late = call.began - ended
                yield f"{tag}: {call.step} was called {late:.1f} s after its cancellation"


def blobs_come_first(record: Record) -> Iterator[str]:
    """A row that names a large value is committed when that value is there."""
    for row in record.history.rows:
        for name in row.blobs:
            blob = record.history.blobs.get(name)
            if blob is None or not blob.whole:
                state = "is not there" if blob is None else "is damaged"
                yield f"{row.execution}: seq {row.seq} names {name[:12]}, which {state}"
            elif blob.at > row.at + CLOCK_S:
                late = (blob.at - row.at) * 1000
                yield f"{row.execution}: seq {row.seq} names a value written {late:.0f} ms later"


def once_is_once(record: Record) -> Iterator[str]:
    for (tag, step), calls in record.calls.items():
        made = [call for call in calls if not call.refused]
        if step.startswith("once") and len(made) > 1:
            yield f"{tag}: {step} was called {len(made)} times"
