"""The checker names each violation that it is fed, and finds nothing in a history that keeps every rule."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.campaign.checker import ADOPTED, REPEATS, judge
from tests.campaign.faults import Fault
from tests.campaign.history import Answer, Blob, Call, Effect, History, Noted, Owner, Row
from tests.campaign.target import Write

EXECUTION = "exec_1"
WORKER, OTHER = 10, 11


def row(seq: int, kind: str, step: str = "", at: float = 0.0, **more: object) -> Row:
    return Row(
        execution=EXECUTION, seq=seq, epoch=1, kind=kind, step=step, at=at or float(seq), **more
    )


def call(number: int, step: str, began: float, past: str = "", **more: object) -> Call:
    given = {"status": 200, "complete": True, "answer": f"n1.{step}.{number}", "pid": WORKER}
    told = {"ended": began + 0.5, **given, **more}
    told = {"key": f"k-{step}", **told}
    return Call(id=number, tag="n1", step=step, began=began, past=past, **told)


def good() -> History:
    """One execution of a chain of three, as it should be."""
    rows = [row(1, "execution.created"), row(2, "execution.started")]
    calls, past = [], ""
    for number, step in enumerate("abc", 1):
        calls.append(call(number, step, 3.1 + 2 * number, past))
        rows.append(row(1 + 2 * number, "step.started", step, 3.0 + 2 * number))
        past = calls[-1].answer
        rows.append(row(2 + 2 * number, "step.completed", step, 4.0 + 2 * number, text=past))
    rows.append(row(9, "execution.completed", at=10.0))
    noted = Noted(
        id=EXECUTION, tag="n1", kind="chain", acknowledged=2.0, seen=11.0, status="completed",
        output=past,
    )  # fmt: skip
    return History(
        calls=calls,
        rows=rows,
        owners=[Owner(execution=EXECUTION, owner="c1", epoch=1, at=1.0)],
        noted=[noted],
        kinds={"n1": (EXECUTION, "chain")},
        statuses={EXECUTION: "completed"},
    )


def rules(history: History, **how: bool) -> set[str]:
    return {violation.rule for violation in judge(history, **how).violations}


def test_good_history_breaks_no_rule():
    assert rules(good()) == set()


def of_step(history: History, kind: str, step: str = "") -> Row:
    return next(r for r in history.rows if r.kind == kind and r.step == step)


def never_ends(history: History) -> None:
    history.statuses[EXECUTION] = "running"
    history.rows.pop()
    history.noted[0].status = None


def vanished(history: History) -> None:
    history.statuses.clear()
    history.rows.clear()
    history.owners.clear()


def told_otherwise(history: History) -> None:
    history.noted[0].status = "failed"
    history.noted[0].error = '{"type": "WorkerLost"}'


def gap(history: History) -> None:
    history.rows[-1].seq = 11


def second_end(history: History) -> None:
    extra = row(9, "step.failed", "b", at=9.5)
    history.rows[-1].seq = 10
    history.rows.insert(-1, extra)


def after_the_end(history: History) -> None:
    history.rows.append(row(10, "step.started", "a", at=11.0))


def stale_write(history: History) -> None:
    history.owners.append(Owner(execution=EXECUTION, owner="c2", epoch=7, at=8.5))


def falling_epoch(history: History) -> None:
    for epoch, at in ((5, 0.2), (1, 0.3)):
        history.owners.insert(-1, Owner(execution=EXECUTION, owner="c1", epoch=epoch, at=at))


def unstable_key(history: History) -> None:
    history.calls.insert(1, call(9, "a", 5.0, status=500, answer="", key="k-other"))


def shared_key(history: History) -> None:
    history.calls[1].key = "k-a"


def early_call(history: History) -> None:
    of_step(history, "step.started", "b").at = 7.3


def told_uncommitted(history: History) -> None:
    history.calls[1].past = "n1.a.77"


def invented_result(history: History) -> None:
    of_step(history, "step.completed", "c").text = "n1.c.77"
    history.noted[0].output = "n1.c.77"


def unanswered_result(history: History) -> None:
    history.calls[2].complete = False


def other_output(history: History) -> None:
    history.noted[0].output = "something"


def strange_failure(history: History) -> None:
    history.rows[-1] = row(9, "execution.failed", at=10.0, error="NodeFailed")
    history.statuses[EXECUTION] = history.noted[0].status = "failed"
    history.noted[0].error = '{"type": "NodeFailed"}'


def uncalled_for_cancellation(history: History) -> None:
    history.rows[-1] = row(9, "execution.cancelled", at=10.0)
    history.statuses[EXECUTION] = history.noted[0].status = "cancelled"


def called_after_commit(history: History) -> None:
    history.calls.append(call(9, "a", 8.0))


def called_after_cancellation(history: History) -> None:
    uncalled_for_cancellation(history)
    history.noted[0].cancel_asked = 9.0
    history.calls.append(call(9, "d", 12.5, "n1.c.3"))


def called_twice(history: History) -> None:
    history.calls.insert(1, call(9, "a", 5.2))


def once_twice(history: History) -> None:
    history.noted[0].kind = "once"
    history.kinds["n1"] = (EXECUTION, "once")
    for each in (*history.calls, *history.rows):
        each.step = "once" if each.step == "b" else each.step
    history.calls[1].answer = of_step(history, "step.completed", "once").text = "n1.once.2"
    history.calls[2].past = "n1.once.2"
    history.calls.insert(2, call(9, "once", 7.3, "n1.a.1", complete=False))


def absent_blob(history: History) -> None:
    history.rows[3].blobs = ("abc",)


def damaged_blob(history: History) -> None:
    absent_blob(history)
    history.blobs["abc"] = Blob(at=0.0, whole=False)


def late_blob(history: History) -> None:
    absent_blob(history)
    history.blobs["abc"] = Blob(at=9.0)


def renamed(history: History, kind: str, *names: str) -> None:
    """The same history, of a workflow of another kind whose steps have other names."""
    history.kinds["n1"], history.noted[0].kind = (EXECUTION, kind), kind
    steps = dict(zip("abc", names))
    for each in (*history.rows, *history.calls):
        each.step = steps.get(each.step, each.step)


def http(history: History) -> None:
    """The second step is a request whose first answer got lost."""
    renamed(history, "http", "a", "post", "put")
    history.noted[0].kind = ""
    lost = call(9, "post", 7.05, "n1.a.1", key="k-b", status=0, complete=False, answer="n1.b.2")
    history.calls.insert(1, lost)
    for each in history.rows[5:]:
        each.seq += 1
    history.rows.insert(5, row(6, "step.started", "post", at=7.06, attempt=2))
    history.effects.append(Effect(id=9, key="k-b", tag="n1", step="post", said="n1.b.2"))


def done_again(history: History) -> None:
    http(history)
    history.effects.append(Effect(id=2, key="", tag="n1", step="post", said="n1.b.3"))


def db(history: History) -> None:
    """The second step writes, the third one reads."""
    renamed(history, "db", "a", "write1", "read")
    history.calls[1:] = []
    said = of_step(history, "step.completed", "write1").text = "n1.write1.1"
    of_step(history, "step.completed", "read").text = said
    history.writes.append(Write(tag="n1", step="write1", said=said, past="n1.a.1", at=7.5))
    history.noted[0].kind = ""


def written_twice(history: History) -> None:
    db(history)
    history.writes.append(Write(tag="n1", step="write1", said="x", past="n1.a.1", at=7.6))


def write_lost(history: History) -> None:
    db(history)
    history.writes.clear()


def written_early(history: History) -> None:
    db(history)
    history.writes[0].at = 6.9


def wrote_uncommitted(history: History) -> None:
    db(history)
    history.writes[0].past = "n1.a.7"


def read_otherwise(history: History) -> None:
    db(history)
    of_step(history, "step.completed", "read").text = "0 rows"


def signals(history: History) -> None:
    """The second and the third step wait for signals; a fourth one follows."""
    renamed(history, "signals", "a", "go1", "go2")
    history.calls[1:] = [call(3, "c", 9.3, "t2")]
    for number in (1, 2):
        of_step(history, "step.completed", f"go{number}").text = token = f"t{number}"
        sent = Answer(token=token, execution=EXECUTION, wait="go", asked=5.0 + number, status=200)
        history.answers.append(sent)
    history.rows[-1:-1] = [
        row(9, "step.started", "c", at=9.2),
        row(10, "step.completed", "c", at=9.5, text="n1.c.3"),
    ]
    history.rows[-1].seq = 11
    history.noted[0].output = "n1.c.3"


def answer_lost(history: History) -> None:
    signals(history)
    history.answers[1].status = None
    history.answers.insert(
        1, Answer(token="t9", execution=EXECUTION, wait="go", asked=6.5, status=200)
    )


def answered_twice(history: History) -> None:
    signals(history)
    history.answers.append(
        Answer(token="t9", execution=EXECUTION, wait="go", asked=6.5, status=200)
    )


def answered_by_nobody(history: History) -> None:
    signals(history)
    history.answers[0].token = "t9"
    history.answers[0].status = None


def refused_and_taken(history: History) -> None:
    signals(history)
    history.answers[0].status = 409


def taken_twice(history: History) -> None:
    signals(history)
    of_step(history, "step.completed", "go2").text = "t1"
    history.answers[1].status = None


def taken_in_another_order(history: History) -> None:
    signals(history)
    for step, token in (("go1", "t2"), ("go2", "t1")):
        of_step(history, "step.completed", step).text = token


def taken_before_it_was_given(history: History) -> None:
    signals(history)
    history.answers[1].asked = 12.0


def timer(history: History) -> None:
    renamed(history, "timer", "a", "pause", "c")
    history.calls[1:2] = []
    of_step(history, "step.completed", "pause").text = None


def woken_early(history: History) -> None:
    timer(history)
    of_step(history, "step.completed", "pause").at = history.calls[0].began + 1.0


TAKEN = "an answer that was acknowledged is taken, once"
KEPT = "what was acknowledged is kept, and ends"
BLOB = "a large value is there before its name"


@pytest.mark.parametrize(
    ("break_it", "rule"),
    [
        (never_ends, KEPT),
        (vanished, KEPT),
        (told_otherwise, "client, row and journal agree on the end"),
        (gap, "the journal has no gaps"),
        (second_end, "a step ends once"),
        (after_the_end, "nothing happens after the end"),
        (stale_write, "only the owner writes"),
        (falling_epoch, "only the owner writes"),
        (unstable_key, "one key per step"),
        (shared_key, "one key per step"),
        (early_call, "commit before call"),
        (told_uncommitted, "a call is told only what is committed"),
        (invented_result, "a result is an answer of the provider"),
        (unanswered_result, "a result is an answer of the provider"),
        (other_output, "the output is the last step's result"),
        (strange_failure, "an execution ends as it should"),
        (uncalled_for_cancellation, "an execution ends as it should"),
        (called_after_commit, "what is committed is not called again"),
        (called_after_cancellation, "nothing is called after a cancellation"),
        (called_twice, REPEATS),
        (once_twice, "once is at most once"),
        (absent_blob, BLOB),
        (damaged_blob, BLOB),
        (late_blob, BLOB),
        (done_again, "a service does each thing once"),
        (written_twice, "a write is made once"),
        (write_lost, "no write is lost"),
        (written_early, "a write follows its intent"),
        (wrote_uncommitted, "a write follows its intent"),
        (read_otherwise, "a read sees what was written"),
        (answer_lost, TAKEN),
        (answered_twice, TAKEN),
        (answered_by_nobody, TAKEN),
        (refused_and_taken, TAKEN),
        (taken_twice, TAKEN),
        (taken_in_another_order, TAKEN),
        (taken_before_it_was_given, "a wait goes on with what was given before"),
        (woken_early, "a timer is not early"),
    ],
)
def test_checker_names_a_violation(break_it: Callable[[History], None], rule: str):
    history = good()
    break_it(history)
    assert rule in rules(history)


@pytest.mark.parametrize("make", [http, db, signals, timer], ids=lambda value: "")
def test_checker_finds_nothing_in_what_keeps_its_promises(make: Callable[[History], None]):
    history = good()
    make(history)
    assert rules(history) == set()


@pytest.mark.parametrize(("late_s", "judged"), [(0.4, False), (2.5, True)])
def test_call_of_a_step_whose_outcome_is_unknown_may_be_on_its_way_for_a_moment(
    late_s: float, judged: bool
):
    history = good()
    end = of_step(history, "step.completed", "c")
    end.kind, end.error = "step.failed", "UnknownOutcome"
    history.calls[2].began = end.at + late_s
    assert ("what is committed is not called again" in rules(history)) is judged


def fault(kind: str, at: float, **more: object) -> Fault:
    return Fault(number=1, kind=kind, at=at, until=at + 0.1, hit=True, **more)


def repeated() -> History:
    """The first call is made again, with an intent of its own, before anything came of it."""
    history = good()
    history.calls[0].complete, history.calls[0].status = False, None
    again = call(9, "a", 5.8, answer="n1.a.1")
    history.calls.insert(1, again)
    for each in history.rows[3:]:
        each.seq += 1
    history.rows.insert(3, row(4, "step.started", "a", at=5.7, attempt=2))
    return history


def test_repeated_call_needs_a_fault_that_met_it():
    assert rules(repeated()) == {REPEATS}
    history = repeated()
    history.faults = [fault("worker killed", 5.3, pids=(WORKER,))]
    assert rules(history) == set()
    verdict = judge(history)
    assert (verdict.repeats, verdict.in_flight) == ({"worker killed": 1}, 1)


def test_call_of_a_process_that_was_killed_before_it_was_found_is_that_faults():
    history = repeated()
    history.calls[0].pid = 0
    assert rules(history) == {REPEATS}
    killed = fault("worker killed", 5.0, pids=(OTHER,))
    history.faults = [msgspec.structs.replace(killed, hit=False)]
    assert rules(history) == set()
    history.faults = [msgspec.structs.replace(killed, at=1.0, until=1.1)]
    assert rules(history) == {REPEATS}


def test_fault_elsewhere_is_no_cause_of_a_repeated_call():
    history = repeated()
    history.faults = [fault("worker killed", 5.3, pids=(OTHER,))]
    assert rules(history) == {REPEATS}
    history.faults = [msgspec.structs.replace(history.faults[0], pids=(WORKER,), hit=False)]
    assert rules(history) == {REPEATS}


def test_death_of_a_coordinator_is_no_cause_where_adoption_is_looked_at():
    history = repeated()
    killed = fault("coordinator killed", 5.3, pids=(OTHER,), executions=(EXECUTION,))
    history.faults = [killed]
    assert rules(history) == set()
    assert rules(history, strict_adoption=True) == {ADOPTED}


def test_call_of_a_process_that_was_stopped_is_counted_apart():
    history = good()
    history.calls.append(call(9, "a", 8.0))
    history.rows.insert(3, row(4, "step.started", "a", at=5.05, attempt=2))
    for place, each in enumerate(history.rows, 1):
        each.seq = place
    stopped = fault("worker stopped", 5.15, pids=(WORKER,), stopped=True)
    history.faults = [msgspec.structs.replace(stopped, until=7.5)]
    verdict = judge(history)
    assert verdict.thawed == 1
    assert verdict.violations == []
