"""Loops, races and errors that are met, over HTTP: from the spec to rows and events in PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.api.test_executions import read

Json = Any


def template(text: str, output_key: str) -> Json:
    return {"strategy": "template", "template": text, "output_key": output_key}


def model_source(model: Any) -> list[Json]:
    config = {"provider": "openai-compatible", "model": "m1", "base_url": model.url}
    return [{"id": "gpt", "kind": "llm", "config": config}]


def ask(node_id: str, prompt: str, **more: Json) -> Json:
    options = {"source": "gpt", "prompt": prompt, "output_key": node_id}
    return {"id": node_id, "type": "llm", "metadata": options, **more}


async def execute(client: Any, workflow: Json, **initial: Json) -> Json:
    async with asyncio.timeout(30):
        answer = await client.post(
            "/workflows/execute", json={"workflow": workflow, "initial_state": initial}
        )
    return answer.json()


async def test_loop_has_a_row_and_events_for_each_iteration(client, live):
    workflow = {
        "name": "three lines",
        "start_node": "start",
        "state": {"lines": {"type": "list", "merge": "concat"}},
        "nodes": [
            {"id": "start", "type": "input"},
            {"id": "write", "type": "aggregator", "metadata": template("line", "lines")},
            {"id": "done", "type": "aggregator", "metadata": template("{lines}", "final_output")},
        ],
        "edges": [
            {"from": "start", "to": "write"},
            {"from": "write", "to": "write", "condition": "size(lines) < 3"},
            {"from": "write", "to": "done", "condition": "else"},
        ],
    }
    done = await execute(client, workflow, user_input="x")
    assert done["status"] == "success", done
    assert done["final_state"]["lines"] == ["line"] * 3
    assert done["output"] == '["line","line","line"]'
    record = (await client.get(f"/executions/{done['execution_id']}")).json()
    assert [(step["step"], step["iteration"]) for step in record["steps"]] == [
        ("start", None),
        ("write@1", "1"),
        ("write@2", "2"),
        ("write@3", "3"),
        ("done", None),
    ]
    assert record["metrics"]["nodes_executed"] == 3
    events = [event["data"] for event in await read(live, done["execution_id"])]
    written = [event for event in events if event.get("node_id") == "write"]
    assert [event["iteration"] for event in written] == ["1", "2", "3"]


async def test_race_is_over_while_the_loser_still_waits(client, model):
    workflow = {
        "name": "race",
        "start_node": "start",
        "nodes": [
            {"id": "start", "type": "input"},
            ask("slow", "wait the race"),
            ask("quick", "hello"),
            {
                "id": "first",
                "type": "aggregator",
                "join": "first_success",
                "metadata": {"source_keys": ["slow", "quick"]},
            },
        ],
        "edges": [
            {"from": "start", "to": ["slow", "quick"]},
            {"from": "slow", "to": "first"},
            {"from": "quick", "to": "first"},
        ],
        "sources": model_source(model),
    }
    done = await execute(client, workflow)
    assert done["status"] == "success", done
    assert done["output"] == {"quick": "one two three"}
    record = (await client.get(f"/executions/{done['execution_id']}")).json()
    statuses = {step["step"]: step["status"] for step in record["steps"]}
    assert statuses == {
        "start": "completed",
        "slow": "cancelled",
        "quick": "completed",
        "first": "completed",
    }
    assert not model.gate("the race").is_set()


async def test_race_that_everyone_loses_fails_with_the_first_error(client, model):
    workflow = {
        "name": "lost race",
        "start_node": "start",
        "nodes": [
            {"id": "start", "type": "input"},
            ask("a", "refuse", retry={"max_attempts": 1}),
            ask("b", "refuse", retry={"max_attempts": 1}),
            {"id": "first", "type": "aggregator", "join": "first_success"},
        ],
        "edges": [
            {"from": "start", "to": ["a", "b"]},
            {"from": "a", "to": "first"},
            {"from": "b", "to": "first"},
        ],
        "sources": model_source(model),
    }
    done = await execute(client, workflow)
    assert done["status"] == 500 and "ProviderAuthError" in done["detail"], done
    record = (await client.get(f"/executions/{done['execution_id']}")).json()
    assert record["error"]["node_id"] == "first"
    assert [step["status"] for step in record["steps"]] == ["completed", *["failed"] * 3]


async def test_goto_hands_the_error_to_its_target(client, model):
    workflow = {
        "name": "apology",
        "start_node": "start",
        "settings": {"on_error": {"goto": "apologise"}},
        "nodes": [
            {"id": "start", "type": "input"},
            ask("write", "refuse", retry={"max_attempts": 1}),
            {
                "id": "apologise",
                "type": "aggregator",
                "metadata": template("Sorry: {error.node_id} {error.type}", "final_output"),
            },
        ],
        "edges": [{"from": "start", "to": "write"}],
        "sources": model_source(model),
    }
    done = await execute(client, workflow)
    assert done["status"] == "success", done
    assert done["output"] == "Sorry: write ProviderAuthError"
    assert [error["node_id"] for error in done["final_state"]["errors"]] == ["write"]


async def test_loop_without_end_fails_with_iteration_limit(client):
    workflow = {
        "name": "for ever",
        "start_node": "start",
        "settings": {"max_iterations": 4},
        "nodes": [{"id": "start", "type": "input"}, {"id": "again", "type": "input"}],
        "edges": [
            {"from": "start", "to": "again"},
            {"from": "again", "to": "again", "condition": "user_input == 'x'"},
            {"from": "again", "to": "end", "condition": "else"},
        ],
    }
    done = await execute(client, workflow, user_input="x")
    assert done["status"] == 500 and "IterationLimit" in done["detail"], done
    record = (await client.get(f"/executions/{done['execution_id']}")).json()
    assert record["steps"][-1]["step"] == "again@5"
    assert record["final_state"]["execution_path"] == ["start", *["again"] * 5]
