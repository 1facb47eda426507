"""Retry, release, and what an execution's steps tell: over the wire, against a model that fails and is
mended. Every call is counted at the model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow.ids import new_id, to_uuid
from tests.api.conftest import Model
from tests.api.test_executions import read, started

Json = Any


@pytest.fixture
def chain(asking) -> Json:
    """start -> first -> second -> third; ``second`` sends the text of ``user_input`` to the model."""

    def llm(name: str, prompt: str) -> Json:
        options = {"source": "gpt", "prompt": prompt, "output_key": f"{name}_text"}
        return {"id": name, "type": "llm", "retry": {"max_attempts": 1}, "metadata": options}

    return {
        **asking,
        "name": "chain",
        "nodes": [
            {"id": "start", "type": "input"},
            llm("first", "first {user_input}"),
            llm("second", "{user_input}"),
            llm("third", "third {second_text}"),
        ],
        "edges": [
            {"from": "start", "to": "first"},
            {"from": "first", "to": "second"},
            {"from": "second", "to": "third"},
        ],
        "state": {f"{name}_text": {"type": "string"} for name in ("first", "second", "third")},
    }


async def over(live, execution_id: str) -> Json:
    await read(live, execution_id)
    return (await live.get(f"/executions/{execution_id}")).json()


async def failed(live, chain, word: str) -> str:
    """An execution whose second step was refused by the model."""
    execution_id = await started(live, chain, f"refuse {word}")
    assert (await over(live, execution_id))["status"] == "failed"
    return execution_id


async def retried(live, execution_id: str) -> Json:
    answer = await live.post(f"/executions/{execution_id}/retry")
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"execution_id": execution_id, "status": "running"}
    return await over(live, execution_id)


async def test_retry_completes_and_calls_no_finished_step_again(live, chain, model: Model):
    execution_id = await failed(live, chain, "once")
    before = (await live.get(f"/executions/{execution_id}")).json()
    model.mend("once")
    done = await retried(live, execution_id)
    assert done["status"] == "completed" and done["error"] is None
    assert model.calls.count("first refuse once") == 1
    assert model.calls.count("refuse once") == 2
    assert [step["generation"] for step in done["steps"]] == [0, 0, 1, 0]
    assert done["metrics"]["tokens_used"] == before["metrics"]["tokens_used"] + 16
    assert done["final_state"]["errors"] == []


async def test_retry_twice_numbers_events_on_and_streams_close_at_the_last_end(live, chain, model):
    execution_id = await failed(live, chain, "twice")
    assert (await retried(live, execution_id))["status"] == "failed"
    model.mend("twice")
    assert (await retried(live, execution_id))["status"] == "completed"
    events = await read(live, execution_id)
    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
    kinds = [event["event"] for event in events]
    assert kinds.count("execution.resumed") == kinds.count("execution.failed") == 2
    assert kinds[-1] == "execution.completed"
    page = (await live.get(f"/executions/{execution_id}/events")).json()
    assert page["complete"] is True and page["last_seq"] == len(events)


async def test_retry_of_a_cancelled_execution_begins_its_open_step_anew(live, chain, model):
    execution_id = await started(live, chain, "wait stopped")
    async with asyncio.timeout(20):
        await model.waiting("stopped").wait()
    await live.post(f"/executions/{execution_id}/cancel")
    assert (await over(live, execution_id))["status"] == "cancelled"
    model.gate("stopped").set()
    assert (await retried(live, execution_id))["status"] == "completed"
    assert model.calls.count("first wait stopped") == 1
    assert model.calls.count("wait stopped") == 2


async def test_retry_of_a_timed_out_execution_has_its_whole_time_again(live, chain, model):
    limited = {**chain, "settings": {"timeout_s": 1}}
    execution_id = await started(live, limited, "wait slow")
    assert (await over(live, execution_id))["status"] == "timed_out"
    model.gate("slow").set()
    assert (await retried(live, execution_id))["status"] == "completed"


async def test_retried_execution_shows_no_outcome_while_it_runs(live, chain, model):
    execution_id = await failed(live, chain, "again")
    model.mend("again", "wait shown")
    answer = await live.post(f"/executions/{execution_id}/retry", json={"from": "failed"})
    assert answer.status_code == 202
    async with asyncio.timeout(20):
        await model.waiting("shown").wait()
    for shown in (
        (await live.get(f"/executions/{execution_id}")).json(),
        (await live.get("/executions?status=running&limit=1")).json()["executions"][0],
    ):
        assert (shown["status"], shown["error"], shown["completed_at"]) == ("running", None, None)
    page = (await live.get(f"/executions/{execution_id}/events")).json()
    assert page["complete"] is False
    refused = await live.post(f"/executions/{execution_id}/retry")
    assert refused.status_code == 409 and "is running" in refused.json()["detail"]
    model.gate("shown").set()
    assert (await over(live, execution_id))["status"] == "completed"


async def test_retry_and_release_of_a_completed_execution_are_409(client, live, quick):
    execution_id = await started(client, quick)
    await over(live, execution_id)
    for verb in ("retry", "release"):
        answer = await client.post(f"/executions/{execution_id}/{verb}")
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "CONFLICT"
        assert "is completed" in answer.json()["detail"]


@pytest.mark.parametrize("execution_id", [new_id("exec"), "exec_1", "none"])
async def test_unknown_execution_is_404_everywhere(client, execution_id):
    for method, path in (
        ("POST", "retry"),
        ("POST", "release"),
        ("POST", "fork"),
        ("GET", "steps"),
        ("GET", "steps/a"),
        ("GET", "state"),
        ("GET", f"diff/{new_id('exec')}"),
    ):
        body = {"json": {"from_node": "a"}} if path == "fork" else {}
        answer = await client.request(method, f"/executions/{execution_id}/{path}", **body)
        assert answer.status_code == 404, path
        assert answer.json()["detail"] == "Execution not found"


@pytest.mark.parametrize(
    ("verb", "body"), [("retry", b'{"from": "start"}'), ("retry", b"["), ("release", b"[]")]
)
async def test_operations_refuse_a_wrong_body(client, quick, verb, body):
    execution_id = await started(client, quick)
    answer = await client.post(f"/executions/{execution_id}/{verb}", content=body)
    assert answer.status_code == 422


async def test_release_lets_a_quarantined_execution_run_again(live, app, chain, model):
    execution_id = await started(live, chain, "wait poison")
    async with asyncio.timeout(20):
        await model.waiting("poison").wait()
    await app.state.flow._pool.execute(
        "UPDATE executions SET status = 'quarantined', strikes = 3, owner = NULL "
        "WHERE execution_id = $1",
        to_uuid(execution_id, "exec"),
    )
    refused = await live.post(f"/executions/{execution_id}/retry")
    assert refused.status_code == 409 and "release" in refused.json()["detail"]
    answer = await live.post(f"/executions/{execution_id}/release", json={"reason": "mended"})
    assert answer.status_code == 202
    again = await live.post(f"/executions/{execution_id}/release")
    assert again.status_code == 409 and "is running" in again.json()["detail"]
    model.gate("poison").set()
    assert (await over(live, execution_id))["status"] == "completed"
    resumed = [e for e in await read(live, execution_id) if e["event"] == "execution.resumed"]
    assert [event["data"]["data"]["reason"] for event in resumed] == ["release"]


async def test_steps_tell_what_each_saw_made_and_cost(live, chain, model):
    execution_id = await failed(live, chain, "looked")
    model.mend("looked")
    await retried(live, execution_id)
    first = (await live.get(f"/executions/{execution_id}/steps?limit=3")).json()
    assert [step["step"] for step in first["steps"]] == ["start", "first", "second"]
    assert (first["total"], first["next_cursor"]) == (4, "3")
    rest = (await live.get(f"/executions/{execution_id}/steps?limit=3&cursor=3")).json()
    assert [step["step"] for step in rest["steps"]] == ["third"] and rest["next_cursor"] is None
    second = (await live.get(f"/executions/{execution_id}/steps/second")).json()
    assert second == first["steps"][2]
    assert second["inputs"]["user_input"] == "refuse looked"
    assert second["outputs"]["delta"]["second_text"] == "one two three"
    tries = [(one["generation"], one["attempt"], one["status"]) for one in second["history"]]
    assert tries == [(0, 1, "failed"), (1, 1, "completed")]
    assert second["history"][0]["error"]["type"] == "ProviderAuthError"
    assert second["usage"][0]["model"] == "m1"
    missing = await live.get(f"/executions/{execution_id}/steps/none")
    assert missing.status_code == 404 and missing.json()["detail"] == "Step not found"
    bad = await live.get(f"/executions/{execution_id}/steps?cursor=x")
    assert bad.status_code == 400


async def test_state_is_shown_as_it_stands_and_as_a_node_saw_it(live, chain):
    execution_id = await started(live, chain, "hello")
    done = await over(live, execution_id)
    whole = (await live.get(f"/executions/{execution_id}/state")).json()
    assert whole["state"]["third_text"] == done["final_state"]["third_text"]
    seen = (await live.get(f"/executions/{execution_id}/state?at_node=third")).json()
    assert seen["step"] == "third"
    assert seen["state"]["second_text"] == "one two three"
    assert "third_text" not in seen["state"]
    absent = await live.get(f"/executions/{execution_id}/state?at_node=nowhere")
    assert absent.status_code == 404 and "nowhere" in absent.json()["detail"]


async def test_state_of_a_node_that_has_not_begun_is_404(live, chain):
    execution_id = await failed(live, chain, "notyet")
    answer = await live.get(f"/executions/{execution_id}/state?at_node=third")
    assert answer.status_code == 404 and "has not begun" in answer.json()["detail"]


async def test_diff_tells_per_step_what_differs(live, chain, model):
    a = await failed(live, chain, "compared")
    b = await started(live, chain, "hello")
    await over(live, b)
    found = (await live.get(f"/executions/{a}/diff/{b}")).json()
    assert (found["a"]["status"], found["b"]["status"]) == ("failed", "completed")
    assert found["same_workflow"] is True
    nodes = {node["step"]: node for node in found["nodes"]}
    assert nodes["first"]["output_equal"] is True and nodes["first"]["difference"] is None
    assert nodes["second"]["a"]["error"] == "ProviderAuthError"
    assert nodes["second"]["difference"].startswith("+")
    assert nodes["third"]["a"] is None and nodes["third"]["b"]["tokens"] == 8


async def forked(live, execution_id: str, **body: Json) -> Json:
    answer = await live.post(f"/executions/{execution_id}/fork", json=body)
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert answer.headers["location"] == f"/api/v1/executions/{found['execution_id']}"
    return found


async def test_fork_reuses_what_is_before_its_node_and_pays_only_the_rest(live, chain, model):
    execution_id = await started(live, chain, "hello fork")
    await over(live, execution_id)
    calls = len(model.calls)
    found = await forked(live, execution_id, from_node="third", reuse="recorded")
    assert found["reused_steps"] == ["start", "first", "second"]
    assert found["repeated_steps"] == ["third"]
    assert found["forked_from"] == execution_id != found["execution_id"]
    done = await over(live, found["execution_id"])
    assert done["status"] == "completed" and len(model.calls) == calls + 1
    original = (await live.get(f"/executions/{execution_id}")).json()
    fields = ("first_text", "second_text", "third_text", "execution_path")
    for name in fields:
        assert done["final_state"][name] == original["final_state"][name]
    assert [step["tokens"] for step in done["steps"]] == [0, 0, 0, 8]
    events = await read(live, found["execution_id"])
    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
    reused = [e for e in events if (e["data"]["data"].get("reused_from") or "") == execution_id]
    assert [event["data"]["step"] for event in reused] == ["start", "first", "second"]


async def test_fork_does_anew_what_reads_a_changed_field_and_what_is_behind_it(live, chain, model):
    execution_id = await started(live, chain, "hello set")
    await over(live, execution_id)
    body = {"from_node": "third", "state": {"user_input": "hello other"}, "preview": True}
    answer = await live.post(f"/executions/{execution_id}/fork", json=body)
    assert answer.status_code == 200
    told = answer.json()
    assert told["execution_id"] is None and told["reused_steps"] == []
    found = await forked(live, execution_id, **{**body, "preview": False})
    assert found["repeated_steps"] == told["repeated_steps"]
    assert (await over(live, found["execution_id"]))["status"] == "completed"
    assert "first hello other" in model.calls


async def test_fork_with_another_workflow_reuses_nodes_that_read_the_same(live, chain, model):
    execution_id = await failed(live, chain, "forever")
    nodes = [dict(node) for node in chain["nodes"]]
    nodes[2] = {**nodes[2], "metadata": {**nodes[2]["metadata"], "prompt": "say it"}}
    found = await forked(live, execution_id, from_node="third", spec={**chain, "nodes": nodes})
    assert found["reused_steps"] == ["start", "first"]
    assert (await over(live, found["execution_id"]))["status"] == "completed"
    assert model.calls.count("first refuse forever") == 1


async def test_fork_of_a_fork_that_is_retried_keeps_what_was_reused(live, chain, model):
    execution_id = await failed(live, chain, "nested")
    first = await forked(live, execution_id, from_node="second")
    assert (await over(live, first["execution_id"]))["status"] == "failed"
    model.mend("nested")
    assert (await retried(live, first["execution_id"]))["status"] == "completed"
    second = await forked(live, first["execution_id"], from_node="third")
    assert second["reused_steps"] == ["start", "first", "second"]
    assert (await over(live, second["execution_id"]))["status"] == "completed"
    assert model.calls.count("first refuse nested") == 1


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "from_node must be"),
        ({"from_node": "first", "reuse": "all"}, 422, "reuse must be"),
        ({"from_node": "first", "stat": {}}, 422, "stat is not known"),
        ({"from_node": "nowhere"}, 400, "its nodes are: start"),
        ({"from_node": "join", "state": {"a..b": 1}}, 400, "no path of a field"),
        ({"from_node": "join", "spec": {"nodes": []}}, 400, "validation failed"),
    ],
)
async def test_fork_refuses_what_it_cannot_do(client, quick, body, status, says):
    execution_id = await started(client, quick)
    answer = await client.post(f"/executions/{execution_id}/fork", json=body)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
