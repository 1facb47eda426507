"""Answers and signals over the wire."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow.ids import new_id

Json = Any
APPROVAL: Json = {
    "name": "approval",
    "start_node": "start",
    "nodes": [
        {"id": "start", "type": "input"},
        {
            "id": "approve",
            "type": "human",
            "metadata": {
                "prompt": "Pay {user_input}?",
                "assignees": ["ann"],
                "expires_s": 3600,
                "output_key": "final_output",
            },
        },
        {"id": "paid", "type": "wait", "metadata": {"signal": "paid", "output_key": "payment"}},
    ],
    "edges": [
        {"from": "start", "to": "approve"},
        {"from": "approve", "to": "paid", "condition": "result.decision == 'approved'"},
    ],
    "state": {"payment": {"type": "object"}},
}


async def asked(client) -> str:
    """An execution that waits for the approval; the caller is told at once that it waits."""
    body = {"workflow": APPROVAL, "initial_state": {"user_input": "42 EUR"}}
    answer = await client.post("/api/v1/workflows/execute", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "waiting"
    execution_id: str = answer.json()["execution_id"]
    return execution_id


async def resume(client, execution_id: str, **body: Json):
    return await client.post(f"/api/v1/executions/{execution_id}/resume", json=body)


async def over(client, execution_id: str) -> Json:
    """The execution once it has ended: its stream of events ends with it."""
    path = f"/api/v1/executions/{execution_id}"
    async with asyncio.timeout(10):
        await client.get(f"{path}/events", headers={"Accept": "text/event-stream"})
    return (await client.get(path)).json()


async def test_execution_shows_what_it_waits_for_and_goes_on_with_the_answer(client):
    key = await asked(client)
    (wait,) = (await client.get(f"/api/v1/executions/{key}")).json()["waits"]
    assert wait["wait_id"] == "approve/0" and wait["kind"] == "human"
    assert wait["prompt"] == "Pay 42 EUR?" and wait["assignees"] == ["ann"]
    assert wait["form"]["required"] == ["approved"] and wait["due_at"] > wait["created_at"]
    answer = await resume(client, key, node_id="approve", data={"approved": False})
    assert answer.status_code == 200
    assert answer.json() == {"execution_id": key, "wait_id": "approve/0", "status": "answered"}
    body = await over(client, key)
    assert body["status"] == "completed"
    assert body["output"] == {"approved": False} and body["waits"] == []
    result = body["final_state"]["outputs"]["approve"]
    assert result["decision"] == "rejected" and result["by"] == "bootstrap"
    assert {step["step"]: step["status"] for step in body["steps"]}["paid"] == "skipped"


async def test_signal_before_its_wait_is_kept_and_delivered(client):
    key = await asked(client)
    kept = await resume(client, key, signal="paid", data={"sum": 42})
    assert (kept.status_code, kept.json()["wait_id"], kept.json()["status"]) == (200, None, "kept")
    again = await resume(client, key, signal="paid", data={"sum": 43})
    assert again.status_code == 409
    await resume(client, key, wait_id="approve/0", data={"approved": True})
    body = await over(client, key)
    assert body["final_state"]["payment"] == {"sum": 42}


async def test_second_answer_is_a_conflict_for_ever(client):
    key = await asked(client)
    answers = [resume(client, key, node_id="approve", data={"approved": True}) for _ in range(4)]
    found = sorted(answer.status_code for answer in await asyncio.gather(*answers))
    assert found == [200, 409, 409, 409]
    await resume(client, key, signal="paid")
    assert (await over(client, key))["status"] == "completed"
    late = await resume(client, key, wait_id="approve/0", data={"approved": True})
    assert (late.status_code, late.json()["code"]) == (409, "CONFLICT")


async def test_answer_that_does_not_fit_the_form_is_refused_and_another_is_taken(client):
    key = await asked(client)
    wrong = await resume(client, key, node_id="approve", data={"comment": "well"})
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["path"] == "/data" and "approved" in wrong.json()["detail"]
    assert (await resume(client, key, node_id="approve", data={"approved": False})).is_success


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": 1},
        {"node_id": "approve", "signal": "paid"},
        {"node_id": 7},
        {"signal": ""},
        {"node_id": "approve", "dat": 1},
    ],
)
async def test_body_of_a_wrong_shape_is_refused(client, body):
    answer = await resume(client, new_id("exec"), **body)
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_ERROR")


async def test_what_does_not_exist_is_not_found(client):
    key = await asked(client)
    for named in ({"node_id": "start"}, {"node_id": "x"}, {"wait_id": "x/0"}, {"signal": "x"}):
        assert (await resume(client, key, **named)).status_code == 404, named
    assert (await resume(client, new_id("exec"), signal="paid")).status_code == 404
    assert (await resume(client, "exec_x", signal="paid")).status_code == 404


async def test_resume_needs_a_key(anonymous):
    answer = await anonymous.post(
        f"/api/v1/executions/{new_id('exec')}/resume", json={"signal": "x"}
    )
    assert answer.status_code == 401
