"""Rules over what steps did outside: the service's effects, the rows of the other database, the answers that
the client gave, and what a timer promises."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.campaign.history import Answer
from tests.campaign.rules import CLOCK_S, TABLES, Record, past_of
from tests.campaign.target import Write
from tests.campaign.workflows import PAUSE_S, WAITS


def effects_are_once(record: Record) -> Iterator[str]:
    """The service knows a request that it has done by its key, so it does each thing once."""
    done = Counter((effect.tag, effect.step) for effect in record.history.effects)
    for (tag, step), times in done.items():
        if times > 1:
            yield f"{tag}: what {step} asked for was done {times} times"


def _writes(record: Record) -> dict[tuple[str, str], list[Write]]:
    found: dict[tuple[str, str], list[Write]] = defaultdict(list)
    for each in record.history.writes:
        found[each.tag, each.step].append(each)
    return found


def writes_are_once(record: Record) -> Iterator[str]:
    for (tag, step), written in _writes(record).items():
        if len(written) > 1:
            yield f"{tag}: {step} wrote {len(written)} rows: {[each.said for each in written]}"


def no_write_is_lost(record: Record) -> Iterator[str]:
    """A write that was committed as done is there, and its result is what was written."""
    written = _writes(record)
    for tag, (execution, _) in record.history.kinds.items():
        for step in TABLES:
            rows = record.rows(execution, step, "step.completed") if "write" in step else []
            said = {each.said for each in written.get((tag, step), ())}
            if rows and rows[0].text not in said:
                yield f"{tag}: {step} gave {rows[0].text!r}; written is {sorted(said)}"


def writes_follow_their_intent(record: Record) -> Iterator[str]:
    for each in record.history.writes:
        execution, kind = record.of(each.tag)
        started = [row.at for row in record.rows(execution, each.step, "step.started")]
        if not started or each.at + CLOCK_S < min(started):
            yield f"{each.tag}: {each.step} was written before its intent was committed"
        expected = past_of(record, execution, kind, each.step)
        if expected is not None and each.past != expected:
            yield f"{each.tag}: {each.step} wrote {each.past!r}, what was committed is {expected!r}"


def reads_see_writes(record: Record) -> Iterator[str]:
    written = _writes(record)
    for tag, (execution, kind) in record.history.kinds.items():
        for row in record.rows(execution, "read", "step.completed") if kind == "db" else ():
            said = [each.said for each in written.get((tag, "write1"), ())]
            if row.text not in said:
                yield f"{tag}: read {row.text!r}, where {said} was written"


def answers_are_kept(record: Record) -> Iterator[str]:
    """An answer or a signal that the client was told is taken is taken, in an execution that completed or
    waits; each is taken once, and none that was refused."""
    given: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in sorted(record.history.answers, key=lambda answer: answer.asked):
        given[answer.execution, answer.wait].append(answer)
    for noted in record.history.noted:
        for wait, steps in WAITS.get(noted.kind, {}).items():
            answers = given[noted.id, wait]
            through = noted.status in (None, "completed")
            yield from _taken(record, noted.id, wait, steps, answers, through)


def _taken(
    record: Record,
    execution: str,
    wait: str,
    steps: tuple[str, ...],
    answers: list[Answer],
    through: bool,
) -> Iterator[str]:
    rows = [row for step in steps for row in record.rows(execution, step, "step.completed")]
    taken = [row.text for row in rows]
    told = {answer.token: answer.status for answer in answers}
    kept = [answer.token for answer in answers if answer.status == 200]
    if len(kept) > len(steps):
        yield f"{execution}: {wait} was answered {len(kept)} times: {kept}"
    for token in kept if through else ():
        if token not in taken:
            yield f"{execution}: {token} was acknowledged for {wait}, which took {taken}"
    for token in dict.fromkeys(taken):
        if taken.count(token) > 1:
            yield f"{execution}: {token} was taken {taken.count(token)} times by {wait}"
        if token not in told:
            yield f"{execution}: {wait} took {token!r}, which nobody gave"
        elif told[token] not in (None, 200):
            yield f"{execution}: {wait} took {token}, which was refused with {told[token]}"
    order = [token for token in taken if token in kept]
    if order != [token for token in kept if token in taken]:
        yield f"{execution}: {wait} took {order}, acknowledged in the order {kept}"


def answers_come_before(record: Record) -> Iterator[str]:
    """A wait goes on with an answer that had been given by then."""
    asked = {answer.token: answer.asked for answer in record.history.answers}
    for noted in record.history.noted:
        for steps in WAITS.get(noted.kind, {}).values():
            for row in (r for step in steps for r in record.rows(noted.id, step, "step.completed")):
                if row.at + CLOCK_S < asked.get(row.text or "", 0.0):
                    yield f"{noted.id}: {row.step} took {row.text} before it was given"


def timers_are_not_early(record: Record) -> Iterator[str]:
    """A pause begins after the step before it was answered."""
    for tag, (execution, kind) in record.history.kinds.items():
        ends = record.rows(execution, "pause", "step.completed") if kind == "timer" else []
        answers = [call.ended for call in record.calls.get((tag, "a"), []) if call.complete]
        if (
            ends
            and answers
            and ends[0].at + CLOCK_S < (began := min(filter(None, answers))) + PAUSE_S
        ):
            yield f"{tag}: a pause of {PAUSE_S} s ended {ends[0].at - began:.2f} s after the step before"
