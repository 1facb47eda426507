"""Steps that wait for a person, a time or a signal: over a real PostgreSQL, with the engine in process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from agentflow.access.model import DEFAULT_TENANT as TENANT
from agentflow.errors import Conflict, InvalidInput, NotFound
from agentflow.execution.events import StepWaiting
from agentflow.execution.journal import ExecutionRecord, Recorded
from agentflow.flow import Flow, open_local
from agentflow.settings import load

Json = Any


def spec(*nodes: Json, edges: str = "", **more: Json) -> Json:
    """A workflow; edges as "a>b a>c"."""
    pairs = [edge.split(">") for edge in edges.split()]
    return {
        "nodes": list(nodes),
        "edges": [{"from": a, "to": b} for a, b in pairs],
        "start_node": nodes[0]["id"],
        **more,
    }


def wait(name: str, **options: Json) -> Json:
    return {"id": name, "type": "wait", "metadata": options}


def human(name: str, **options: Json) -> Json:
    more = {key: options.pop(key) for key in ("timeout_s", "on_error") if key in options}
    return {"id": name, "type": "human", "metadata": options, **more}


def text(name: str, template: str) -> Json:
    options = {"strategy": "template", "template": template, "output_key": f"{name}_text"}
    return {"id": name, "type": "aggregator", "metadata": options}


@asynccontextmanager
async def flowing(dsn: str, tmp_path: Any, **env: str) -> AsyncIterator[Flow]:
    given = {"DATABASE_URL": dsn, "AGENTFLOW_DATA_DIR": str(tmp_path), "API_KEY": "k" * 40}
    flow = await open_local(load({**given, **env}))
    try:
        yield flow
    finally:
        await flow.close()


@pytest.fixture
async def flow(dsn, tmp_path) -> AsyncIterator[Flow]:
    async with flowing(dsn, tmp_path) as opened:
        yield opened


async def begun(flow: Flow, document: Json, **state: Json) -> str:
    return await flow.submit(TENANT, document, initial_state=state)


async def at_rest(flow: Flow, key: str) -> ExecutionRecord:
    """The execution once it waits for somebody."""
    record = await flow.wait(TENANT, key, 10, at_rest=True)
    assert record.status == "waiting", record
    return record


async def over(flow: Flow, key: str) -> ExecutionRecord:
    record = await flow.wait(TENANT, key, 10)
    assert record.over, record.status
    return record


async def until_waits(flow: Flow, key: str, step: str, generation: int = 0) -> ExecutionRecord:
    """The execution once this step waits."""
    async with asyncio.timeout(10):
        async for items in flow.follow(TENANT, key):
            found = [item.event for item in items if isinstance(item, Recorded)]
            waiting = [event for event in found if isinstance(event, StepWaiting)]
            if any((event.step, event.generation) == (step, generation) for event in waiting):
                return await flow.get(TENANT, key)
    raise AssertionError(f"{step} never waited")


def outputs(record: ExecutionRecord) -> Json:
    assert record.final_state is not None
    return record.final_state["outputs"]


async def test_wait_for_some_seconds_goes_on_at_its_time(flow):
    before = time.time()
    record = await over(
        flow, await begun(flow, spec(wait("w", seconds=0.3), text("t", "done"), edges="w>t"))
    )
    assert record.status == "completed" and 0.3 <= time.time() - before < 1.3
    assert outputs(record)["t"] == "done"


async def test_signal_brings_its_payload(flow):
    document = spec(
        wait("w", signal="paid", output_key="payment"), text("t", "{payment.sum}"), edges="w>t"
    )
    key = await begun(flow, document)
    record = await at_rest(flow, key)
    (open_one,) = record.waits
    assert (open_one["kind"], open_one["signal"], open_one["node_id"]) == ("signal", "paid", "w")
    taken = await flow.resume(TENANT, key, {"sum": 7}, signal="paid", by="tester")
    assert taken.wait_id == open_one["wait_id"]
    record = await over(flow, key)
    assert outputs(record) == {"w": {"sum": 7}, "t": "7"}


async def test_human(flow):
    key = await begun(
        flow,
        spec(
            human("h", prompt="Approve {user_input}?", output_key="answer"),
            text("t", "x"),
            edges="h>t",
        ),
        user_input="this",
    )
    record = await at_rest(flow, key)
    assert record.waits[0]["prompt"] == "Approve this?"
    with pytest.raises(InvalidInput):
        await flow.resume(TENANT, key, {"approved": "maybe"}, node_id="h", by="ann")
    await flow.resume(TENANT, key, {"approved": True}, node_id="h", by="ann")
    with pytest.raises(Conflict):
        await flow.resume(TENANT, key, {"approved": True}, node_id="h", by="bob")
    record = await over(flow, key)
    assert outputs(record)["h"]["decision"] == "approved" and outputs(record)["h"]["by"] == "ann"


async def test_until_takes_a_time_and_what_an_expression_gives(flow):
    soon = datetime.fromtimestamp(time.time() + 0.4, UTC).isoformat()
    document = spec(
        wait("past", until="2020-01-01T00:00:00Z"),
        wait("given", until="${when}"),
        edges="past>given",
        state={"when": {"type": "string"}},
    )
    record = await over(flow, await begun(flow, document, when=soon))
    assert record.status == "completed", record.error
    assert -0.01 <= record.completed_at - datetime.fromisoformat(soon).timestamp() < 1


async def test_until_that_is_no_time_fails_the_step(flow):
    document = spec(wait("w", until="${user_input}"))
    record = await over(flow, await begun(flow, document, user_input="tomorrow"))
    assert record.status == "failed"
    assert record.error["type"] == "InvalidInput" and "tomorrow" in record.error["message"]


async def test_other_branches_go_on_while_a_step_waits(flow):
    document = spec(
        text("a", "a"), wait("w", signal="go"), text("b", "b"), text("c", "c"), edges="a>w a>b b>c"
    )
    key = await begun(flow, document)
    record = await at_rest(flow, key)
    assert {step["step"]: step["status"] for step in record.steps} == {
        "a": "completed", "w": "waiting", "b": "completed", "c": "completed",
    }  # fmt: skip


async def test_signal_that_comes_before_its_wait_is_kept_for_it(flow):
    document = spec(wait("first", signal="one"), wait("second", signal="two"), edges="first>second")
    key = await begun(flow, document)
    await at_rest(flow, key)
    assert (await flow.resume(TENANT, key, "b", signal="two", by="t")).wait_id is None
    with pytest.raises(Conflict, match="kept already"):
        await flow.resume(TENANT, key, "c", signal="two", by="t")
    await flow.resume(TENANT, key, "a", signal="one", by="t")
    assert outputs(await over(flow, key)) == {"first": "a", "second": "b"}


async def test_signal_is_delivered_once_and_its_wait_is_over_then(flow):
    document = spec(wait("w", signal="go"), human("h"), edges="w>h")
    key = await begun(flow, document)
    await at_rest(flow, key)
    await flow.resume(TENANT, key, 1, signal="go", by="t")
    with pytest.raises(Conflict):
        await flow.resume(TENANT, key, 2, signal="go", by="t")
    with pytest.raises(NotFound, match="'go'"):
        await flow.resume(TENANT, key, 2, signal="stop", by="t")


async def test_signal_in_a_loop_is_taken_once_in_each_iteration(flow):
    document = spec(
        wait("w", signal="next", output_key="word"),
        text("t", "{word}"),
        state={"word": {"type": "string"}},
    )
    document["edges"] = [
        {"from": "w", "to": "t"},
        {"from": "t", "to": "w", "condition": "word != 'stop'"},
        {"from": "t", "to": "end", "condition": "else"},
    ]
    key = await begun(flow, document)
    for number, word in enumerate(("a", "b", "stop"), 1):
        await until_waits(flow, key, f"w@{number}")
        assert (
            await flow.resume(TENANT, key, word, signal="next", by="t")
        ).wait_id == f"w@{number}/0"
    record = await over(flow, key)
    assert [step["step"] for step in record.steps if step["node_id"] == "w"] == [
        "w@1",
        "w@2",
        "w@3",
    ]


async def test_signal_that_does_not_come_fails_its_step(flow):
    document = spec(wait("w", signal="go", expires_s=0.2))
    record = await over(flow, await begun(flow, document))
    assert record.status == "failed" and record.error["type"] == "StepTimeout"
    with pytest.raises(Conflict):
        await flow.resume(TENANT, record.id, 1, signal="go", by="t")


async def test_two_people_are_asked_at_once_and_each_answer_finds_its_own(flow):
    document = spec(text("a", "a"), human("x"), human("y"), text("z", "z"), edges="a>x a>y x>z y>z")
    key = await begun(flow, document)
    record = await at_rest(flow, key)
    assert [found["wait_id"] for found in record.waits] == ["x/0", "y/0"]
    await flow.resume(TENANT, key, {"approved": False}, wait_id="y/0", by="bob")
    await flow.resume(TENANT, key, {"approved": True, "comment": "fine"}, wait_id="x/0", by="ann")
    found = outputs(await over(flow, key))
    assert (found["x"]["by"], found["x"]["decision"]) == ("ann", "approved")
    assert (found["y"]["by"], found["y"]["decision"]) == ("bob", "rejected")
    assert found["x"]["data"] == {"approved": True, "comment": "fine"}


async def test_of_two_answers_at_once_one_is_taken(flow):
    key = await begun(flow, spec(human("h")))
    await at_rest(flow, key)
    answers = [
        flow.resume(TENANT, key, {"approved": True}, node_id="h", by=str(n)) for n in range(5)
    ]
    given = await asyncio.gather(*answers, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in given) == ["Conflict"] * 4 + ["Resumed"]
    taken = next(n for n, answer in enumerate(given) if not isinstance(answer, Exception))
    assert outputs(await over(flow, key))["h"]["by"] == str(taken)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"on_expire": "fail"}, "failed"),
        ({"on_expire": "default", "default": {"approved": False}}, "completed"),
        ({"on_expire": {"goto": "late"}}, "completed"),
    ],
)
async def test_question_that_nobody_answers_expires(flow, options, status):
    document = spec(
        text("a", "a"),
        human("h", expires_s=0.2, **options),
        text("late", "late"),
        edges="a>h a>late",
    )
    if options["on_expire"] == {"goto": "late"}:
        document["edges"] = [{"from": "a", "to": "h"}]
    record = await over(flow, await begun(flow, document))
    assert record.status == status, record.error
    if status == "failed":
        assert record.error["type"] == "StepTimeout"
    elif options["on_expire"] == "default":
        assert outputs(record)["h"]["by"] is None
        assert outputs(record)["h"]["decision"] == "rejected"
    else:
        assert outputs(record)["late"] == "late"


async def test_limit_of_the_step_ends_its_wait_and_the_next_answer_is_refused(flow):
    document = spec(human("h", timeout_s=0.3, on_error="continue"), human("i"), edges="h>i")
    key = await begun(flow, document)
    await until_waits(flow, key, "i")
    with pytest.raises(Conflict):
        await flow.resume(TENANT, key, {"approved": True}, node_id="h", by="t")
    await flow.resume(TENANT, key, {"approved": True}, node_id="i", by="t")
    record = await over(flow, key)
    assert [step["status"] for step in record.steps] == ["timed_out", "completed"]


async def test_clock_of_the_execution_stands_still_while_all_of_it_waits(flow):
    document = spec(
        wait("long", seconds=1.2), text("t", "done"), edges="long>t", settings={"timeout_s": 1.0}
    )
    assert (await over(flow, await begun(flow, document))).status == "completed"


async def test_execution_is_cancelled_while_it_waits_and_takes_no_answer_any_more(flow):
    key = await begun(flow, spec(human("h")))
    await at_rest(flow, key)
    await flow.cancel(TENANT, key, "enough")
    record = await over(flow, key)
    assert record.status == "cancelled" and record.steps[0]["status"] == "cancelled"
    with pytest.raises(Conflict, match="ended"):
        await flow.resume(TENANT, key, {"approved": True}, wait_id="h/0", by="t")


async def test_retry_of_a_question_that_expired_asks_again(flow):
    key = await begun(flow, spec(human("h", expires_s=1.5)))
    assert (await over(flow, key)).status == "failed"
    await flow.retry(TENANT, key)
    await until_waits(flow, key, "h", 1)
    await flow.resume(TENANT, key, {"approved": True}, node_id="h", by="t")
    record = await over(flow, key)
    assert record.status == "completed" and outputs(record)["h"]["decision"] == "approved"


async def test_fork_reuses_an_answer_and_asks_what_is_behind_it_again(flow):
    key = await begun(flow, spec(human("h"), human("i"), edges="h>i"))
    await at_rest(flow, key)
    await flow.resume(TENANT, key, {"approved": True}, node_id="h", by="ann")
    await until_waits(flow, key, "i")
    await flow.resume(TENANT, key, {"approved": True}, node_id="i", by="ann")
    await over(flow, key)
    made = (await flow.fork(TENANT, key, "i")).submission.execution_id
    record = await at_rest(flow, made)
    assert [found["wait_id"] for found in record.waits] == ["i/0"]
    assert outputs(record)["h"]["by"] == "ann"
    await flow.resume(TENANT, made, {"approved": False}, node_id="i", by="bob")
    assert outputs(await over(flow, made))["i"]["decision"] == "rejected"


async def test_race_that_another_branch_wins_closes_the_question(flow):
    document = spec(
        text("a", "a"), human("h"), wait("w", seconds=0.3), human("j"), edges="a>h a>w h>j w>j"
    )
    document["nodes"][3]["join"] = "first_success"
    key = await begun(flow, document)
    await until_waits(flow, key, "j")
    with pytest.raises(Conflict):
        await flow.resume(TENANT, key, {"approved": True}, node_id="h", by="t")


async def test_answer_to_a_time_is_refused_and_so_is_one_to_what_does_not_wait(flow):
    key = await begun(flow, spec(wait("w", seconds=60), text("t", "t"), edges="w>t"))
    await until_waits(flow, key, "w")
    with pytest.raises(InvalidInput, match="time"):
        await flow.resume(TENANT, key, 1, node_id="w", by="t")
    for named in ({"node_id": "t"}, {"node_id": "nothing"}, {"wait_id": "w/7"}):
        with pytest.raises(NotFound):
            await flow.resume(TENANT, key, 1, by="t", **named)


async def test_relaxed_execution_waits_as_a_strict_one_does(flow):
    document = spec(text("a", "a"), human("h"), edges="a>h", settings={"durability": "relaxed"})
    key = await begun(flow, document)
    await at_rest(flow, key)
    await flow.resume(TENANT, key, {"approved": True}, node_id="h", by="t")
    assert (await over(flow, key)).status == "completed"
