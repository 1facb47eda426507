"""Recorded journals fold to what they folded to when they were recorded, and without any evaluation."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from tests.unit.execution.machine import HUMAN, Machine, map_node, plan_of
from tests.unit.execution.recorded import FOLDER, read, text_of, write

PROMPT = "{seen} {outputs} {errors} {execution_path} {tokens_used} {cost}"
LLM = {"metadata": {"source": "model", "prompt": PROMPT, "output_key": "seen"}}
STATE = {"seen": {"merge": "concat", "default": []}}
CALL = ev.ModelCall("model", "local", "m", ev.Usage(3, 4), 0.25)
LOST = ev.ErrorInfo("WorkerLost", "gone", retryable=True)
FLAKY = ev.ErrorInfo("ProviderUnavailable", "503", retryable=True)


def begin(links: dict[str, str], settings: object = None, items: object = None, **nodes) -> Machine:
    made = {name: {**LLM, **nodes.get(name, {})} for name in links}
    return Machine(plan_of(links, state=STATE, settings=settings, **made), items=items).accept()


def walk(machine: Machine, *words: str) -> Machine:
    """Finish steps one by one; ``step>target`` takes one edge, ``step!`` fails."""
    for word in words:
        key, _, to = word.partition(">")
        if key.endswith("!"):
            machine.fail(key[:-1])
        else:
            given = {"result": f"of {key}", "delta": {"seen": key}, "calls": (CALL,)}
            machine.finish(key, to or None, **given)
    return machine


def diamond() -> Machine:
    machine = walk(begin({"a": "b c", "b": "d", "c": "d", "d": ""}), "a", "c")
    return walk(machine.fail("b", LOST).fail("b", FLAKY).due("b"), "b", "d")


def loops_in_a_loop() -> Machine:
    links = {"a": "i", "i": "k", "k": "i o", "o": "a x", "x": ""}
    first = ("a@1", "i@1.1", "k@1.1>i", "i@1.2", "k@1.2>o", "o@1>a")
    return walk(begin(links), *first, "a@2", "i@2.1", "k@2.1>o", "o@2>x", "x")


def race() -> Machine:
    links = {"a": "b c", "b": "j", "c": "y", "y": "j", "j": "k", "k": ""}
    machine = walk(begin(links, j={"join": "first_success"}), "a", "b")
    return walk(machine.finish("c", calls=(CALL,)), "j", "k")


def late_arrivals() -> Machine:
    links = {"a": "b c d", "b": "i j", "c": "i j", "d": "i j", "i": "", "j": ""}
    machine = begin(links, i={"join": "any"}, j={"join": {"n_of": 2}})
    return walk(machine, "a", "d", "b", "i", "c", "j")


def failures_of_every_kind() -> Machine:
    links = {"a": "b c d e", "b": "x", "c": "x", "d": "x", "e": "x", "h": "x", "x": ""}
    policies = {
        "b": {"on_error": "continue"},
        "c": {"on_error": "skip"},
        "d": {"on_error": {"goto": "h"}},
        "e": {"on_error": "skip", "timeout_s": 5.0},
    }
    machine = walk(begin(links, **policies), "a", "d!", "b!", "c!").time_out("e")
    return walk(machine, "h", "x")


def goto_back_and_the_bound() -> Machine:
    links = {"a": "b", "b": "c", "c": "", "h": ""}
    nodes = {"b": {"on_error": {"goto": "a"}}, "a": {"on_error": {"goto": "h"}}}
    machine = begin(links, {"max_iterations": 2}, **nodes)
    return walk(machine, "a@1", "b@1!", "a@2", "b@2!", "h")


def items_and_a_retry() -> Machine:
    machine = begin(
        {"m": "b", "b": ""}, items={"m": 4}, m={**map_node(max_concurrency=2), "on_error": "fail"}
    )
    machine = walk(machine, "m[0]", "m[1]!").retry()
    return walk(machine, "m[2]", "m[1]", "m[3]", "b")


def wait_and_limit() -> Machine:
    machine = walk(begin({"a": "h b", "h": "j", "b": "j", "j": ""}, h=HUMAN), "a", "b", "h")
    return machine.happen(hp.ExecutionLimit(at=99.0))


MADE = (
    diamond,
    loops_in_a_loop,
    race,
    late_arrivals,
    failures_of_every_kind,
    goto_back_and_the_bound,
    items_and_a_retry,
    wait_and_limit,
)


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_recorded_journal_folds_to_the_recorded_text(made):
    path = FOLDER / f"{made.__name__}.jsonl"
    if os.environ.get("UPDATE_GOLDEN"):
        machine = made()
        write(path, machine.plan, machine.events)
        path.with_suffix(".txt").write_text(text_of(machine.plan, machine.events))
    assert text_of(*read(path)) == path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_same_work_is_still_journaled_as_it_was_recorded(made):
    machine = made()
    assert machine.state.over, machine.statuses
    assert machine.events[1:] == read(FOLDER / f"{made.__name__}.jsonl")[1][1:]


def test_recorded_journals_fold_where_nothing_can_be_evaluated():
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.execution.blind_fold"],
        cwd=FOLDER.parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(made.__name__ for made in MADE)
