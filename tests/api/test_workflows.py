import asyncio
import copy

import pytest

from agentflow.api.routes.workflows import preferred_wait


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_execute_answers_with_the_final_state(client, quick, prefix):
    answer = await client.post(
        f"{prefix}/workflows/execute",
        json={"workflow": quick, "initial_state": {"user_input": "it"}, "metadata": {"k": "v"}},
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"status", "execution_id", "final_state", "output", "metrics"}
    assert body["status"] == "success"
    assert body["final_state"]["final_output"] == "left of it and right"
    assert body["output"] == "left of it and right"
    assert set(body["metrics"]) == {"execution_time", "tokens_used", "cost", "nodes_executed"}
    assert body["metrics"]["nodes_executed"] == 4


async def test_execute_answers_what_the_row_of_the_execution_holds(client, quick):
    asked = {"workflow": quick, "initial_state": {"user_input": "ü", "mine": {"x": [1, 2.5, None]}}}
    body = (await client.post("/workflows/execute", json=asked)).json()
    shown = (await client.get(f"/executions/{body['execution_id']}")).json()
    assert shown["status"] == "completed"
    for name in ("final_state", "output", "metrics"):
        assert body[name] == shown[name]


async def test_execute_tells_what_failed_without_a_worker(client):
    vote = {"strategy": "vote", "source_keys": ["a", "b"]}
    document = {
        "nodes": [
            {"id": "start", "type": "input"},
            {"id": "v", "type": "aggregator", "metadata": vote},
        ],
        "edges": [{"from": "start", "to": "v"}],
        "start_node": "start",
        "state": {"a": {"type": "string"}, "b": {"type": "string"}},
    }
    answer = await client.post(
        "/workflows/execute",
        json={"workflow": document, "initial_state": {"a": "yes", "b": "no"}},
    )
    body = answer.json()
    assert (answer.status_code, body["code"]) == (500, "WORKFLOW_EXECUTION_ERROR")
    assert (body["execution_status"], body["node_id"]) == ("failed", "v")
    shown = (await client.get(f"/executions/{body['execution_id']}")).json()
    assert shown["error"]["message"] in body["detail"]
    for name in ("final_state", "metrics"):
        assert body[name] == shown[name]


async def test_execute_knows_a_document_again_by_its_types_too(client, quick):
    timed = {**quick, "settings": {"timeout_s": 1}}
    for _ in range(2):
        answer = await client.post("/workflows/execute", json={"workflow": timed})
        assert answer.status_code == 200, answer.text
    wrong = {**quick, "settings": {"timeout_s": True}}
    for _ in range(2):
        answer = await client.post("/workflows/execute", json={"workflow": wrong})
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["path"] == "/settings/timeout_s"


async def test_execute_counts_tokens_of_a_model(client, asking):
    answer = await client.post(
        "/workflows/execute", json={"workflow": asking, "initial_state": {"user_input": "hello"}}
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["final_state"]["text_result"] == "one two three"
    assert body["metrics"]["tokens_used"] == 8


async def test_execute_answers_202_when_the_wait_runs_out(client, asking, model):
    answer = await client.post(
        "/workflows/execute",
        json={"workflow": asking, "initial_state": {"user_input": "wait patience"}},
        headers={"Prefer": "wait=0"},
    )
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert set(body) == {"execution_id", "status"}
    assert body["status"] in ("pending", "running")
    assert answer.headers["location"] == f"/api/v1/executions/{body['execution_id']}"
    assert answer.headers["preference-applied"] == "wait"
    model.gate("patience").set()


async def test_execute_async_answers_at_once(client, quick):
    answer = await client.post("/workflows/execute/async", json={"workflow": quick})
    assert answer.status_code == 202, answer.text
    execution_id = answer.json()["execution_id"]
    assert answer.headers["location"] == f"/api/v1/executions/{execution_id}"
    assert (await client.get(answer.headers["location"])).json()["id"] == execution_id


async def test_execute_tells_what_failed_and_the_partial_state(client, asking):
    answer = await client.post(
        "/workflows/execute", json={"workflow": asking, "initial_state": {"user_input": "refuse"}}
    )
    assert answer.status_code == 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == "WORKFLOW_EXECUTION_ERROR"
    assert body["execution_status"] == "failed"
    assert body["node_id"] == "write"
    assert body["execution_id"].startswith("exec_")
    assert body["errors"][0]["type"] == "ProviderAuthError"
    assert body["errors"][0]["node_id"] == "write"
    assert body["final_state"]["user_input"] == "refuse"
    assert body["metrics"]["tokens_used"] == 0


async def test_execute_answers_409_when_cancelled_and_504_when_timed_out(client, asking, model):
    cancelled = asyncio.create_task(
        client.post(
            "/workflows/execute",
            json={"workflow": asking, "initial_state": {"user_input": "wait cancelled"}},
        )
    )
    async with asyncio.timeout(20):
        await model.waiting("cancelled").wait()
    page = (await client.get("/executions?status=running&limit=1")).json()
    await client.post(f"/executions/{page['executions'][0]['id']}/cancel")
    answer = await cancelled
    assert answer.status_code == 409, answer.text
    assert answer.json()["execution_id"] == page["executions"][0]["id"]

    limited = {**copy.deepcopy(asking), "settings": {"timeout_s": 0.2}}
    answer = await client.post(
        "/workflows/execute",
        json={"workflow": limited, "initial_state": {"user_input": "wait too-long"}},
    )
    assert answer.status_code == 504, answer.text
    assert answer.json()["code"] == "EXECUTION_TIMEOUT"
    assert answer.json()["execution_status"] == "timed_out"
    model.gate("too-long").set()
    model.gate("cancelled").set()


async def test_execute_refuses_an_invalid_workflow(client, quick):
    broken = {**quick, "start_node": "nowhere"}
    for path in ("", "/async", "/stream"):
        answer = await client.post(f"/workflows/execute{path}", json={"workflow": broken})
        assert answer.status_code == 400, answer.text
        body = answer.json()
        assert body["detail"] == "Workflow validation failed"
        assert body["code"] == "VALIDATION_ERROR"
        assert [found["code"] for found in body["errors"]] == ["E005"]


async def test_execute_refuses_input_that_does_not_fit(client, quick):
    strict = {**quick, "input_schema": {"type": "object", "required": ["user_input"]}}
    answer = await client.post("/workflows/execute", json={"workflow": strict})
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "INVALID_INPUT"
    assert "user_input" in answer.json()["detail"]


async def test_execute_says_that_no_workflows_are_stored(client):
    answer = await client.post("/workflows/execute", json={"workflow_id": "wf_1"})
    assert answer.status_code == 404
    assert answer.json()["detail"] == "Workflow not found"
    assert "stores no workflows" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("wrapped", [False, True])
async def test_validate_accepts_a_spec_bare_or_wrapped(client, quick, wrapped):
    answer = await client.post(
        "/workflows/validate", json={"workflow": quick} if wrapped else quick
    )
    assert answer.status_code == 200
    assert answer.json() == {"valid": True, "errors": [], "warnings": []}


async def test_validate_answers_200_with_every_problem(client, quick):
    broken = {**quick, "start_node": "nowhere"}
    answer = await client.post("/workflows/validate", json=broken)
    assert answer.status_code == 200
    body = answer.json()
    assert body["valid"] is False
    (error,) = body["errors"]
    assert error["code"] == "E005"
    assert "Start node" in error["message"]
    assert error["path"] == "/start_node"
    assert error["line"] == 1


async def test_validate_strict_counts_warnings(client):
    lonely = {"nodes": [{"id": "a", "type": "aggregator"}], "edges": [], "start_node": "a"}
    relaxed = (await client.post("/workflows/validate", json=lonely)).json()
    assert relaxed["valid"] is True
    assert relaxed["warnings"]
    strict = (await client.post("/workflows/validate?strict=true", json=lonely)).json()
    assert strict["valid"] is False


async def test_validate_shows_one_node(client, quick):
    broken = copy.deepcopy(quick)
    broken["nodes"][1]["type"] = "unknown-1"
    broken["nodes"][2]["type"] = "unknown-2"
    everything = (await client.post("/workflows/validate", json=broken)).json()
    assert len(everything["errors"]) == 2
    one = (await client.post("/workflows/validate?node=left", json=broken)).json()
    assert [error["node_id"] for error in one["errors"]] == ["left"]
    assert (await client.post("/workflows/validate?node=nowhere", json=broken)).status_code == 404


async def test_schema_describes_a_workflow(client):
    answer = await client.get("/api/v1/schemas/workflow.json")
    assert answer.status_code == 200
    assert {"nodes", "start_node"} <= set(answer.json()["properties"])


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (60.0, False)),
        ("return=minimal", (60.0, False)),
        ("wait=5", (5.0, True)),
        ("respond-async, wait = 7", (7.0, True)),
        ("respond-async", (0.0, True)),
        ("wait=999999", (3600.0, True)),
        ("wait=-1", (60.0, False)),
    ],
)
def test_preferred_wait_follows_the_header(header, expected):
    assert preferred_wait(header) == expected
