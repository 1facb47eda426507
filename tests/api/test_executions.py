import asyncio
import json

import pytest

from agentflow.ids import new_id

SSE = {"Accept": "text/event-stream"}


def parsed(text: str) -> list[dict]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if line[:1] not in ("", ":")
        )
        if "data" in fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


async def started(client, workflow, user_input: str = "hello") -> str:
    answer = await client.post(
        "/workflows/execute/async",
        json={"workflow": workflow, "initial_state": {"user_input": user_input}},
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["execution_id"]


async def read(live, execution_id, after=None, **query) -> list[dict]:
    headers = {**SSE, **({"Last-Event-ID": str(after)} if after is not None else {})}
    async with asyncio.timeout(30):
        answer = await live.get(f"/executions/{execution_id}/events", headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    return parsed(answer.text)


async def test_get_shows_the_whole_execution(client, quick):
    done = await client.post(
        "/workflows/execute", json={"workflow": quick, "initial_state": {"user_input": "x"}}
    )
    answer = await client.get(f"/executions/{done.json()['execution_id']}")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "completed"
    assert body["initial_state"] == {"user_input": "x"}
    assert body["final_state"] == done.json()["final_state"]
    assert body["metrics"] == done.json()["metrics"]
    assert body["error"] is None
    assert [step["node_id"] for step in body["steps"]] == ["start", "left", "right", "join"]
    assert {step["status"] for step in body["steps"]} == {"completed"}
    assert body["links"]["events"] == f"/api/v1/executions/{body['id']}/events"


@pytest.mark.parametrize("execution_id", [new_id("exec"), "exec_1", "none", "exec_" + "z" * 32])
async def test_unknown_execution_is_404_everywhere(client, execution_id):
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
        answer = await client.request(method, f"/executions/{execution_id}{path}")
        assert answer.status_code == 404
        assert answer.json()["detail"] == "Execution not found"


async def test_list_pages_newest_first(client, quick):
    mine = [await started(client, quick) for _ in range(3)]
    seen, cursor = [], None
    for _ in range(2):
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/executions", params=query)).json()
        assert set(page) == {"executions", "total", "limit", "offset", "next_cursor"}
        seen += [found["id"] for found in page["executions"]]
        cursor = page["next_cursor"]
    assert seen[:3] == mine[::-1]
    assert page["total"] >= 3


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "status=bogus", "offset=5", "cursor=bogus"]
)
async def test_list_refuses_a_bad_query(client, query):
    answer = await client.get(f"/executions?{query}")
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert query.split("=")[0] in answer.text


async def test_stream_cut_at_every_event_gives_the_whole_log(client, live, asking):
    execution_id = await started(client, asking)
    whole = [e for e in await read(live, execution_id) if "id" in e]
    assert [int(event["id"]) for event in whole] == list(range(1, len(whole) + 1))
    assert whole[0]["event"] == "execution.created"
    assert whole[-1]["event"] == "execution.completed"
    for cut in range(len(whole)):
        rest = [e for e in await read(live, execution_id, after=cut) if "id" in e]
        assert whole[:cut] + rest == whole
    assert await read(live, execution_id, after=len(whole)) == []


async def test_stream_cut_while_running_continues_where_it_was(client, live, asking, model):
    execution_id = await started(client, asking, "wait cut")
    seen: list[dict] = []
    url = f"/executions/{execution_id}/events"
    async with asyncio.timeout(30), live.stream("GET", url, headers=SSE) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        text = ""
        async for piece in answer.aiter_text():
            text += piece
            if "event: step.started" in text and ": waiting" in text:
                break
        seen = [event for event in parsed(text) if "id" in event]
    record = (await client.get(f"/executions/{execution_id}")).json()
    assert record["status"] == "running"
    model.gate("cut").set()
    rest = [e for e in await read(live, execution_id, after=seen[-1]["id"]) if "id" in e]
    assert [int(e["id"]) for e in seen + rest] == list(range(1, len(seen + rest) + 1))
    assert rest[-1]["event"] == "execution.completed"


async def followed(live, execution_id, quiet: asyncio.Event, **query) -> list[dict]:
    """Reads to the end; sets ``quiet`` at the first comment, when nothing more is to be said yet."""
    url, text = f"/executions/{execution_id}/events", ""
    async with live.stream("GET", url, headers=SSE, params=query) as answer:
        async for piece in answer.aiter_text():
            text += piece
            if ": waiting" in text:
                quiet.set()
    return parsed(text)


async def test_stream_carries_deltas_without_id(client, live, asking, model):
    execution_id = await started(client, asking, "wait deltas")
    quiet = [asyncio.Event(), asyncio.Event()]
    everything = asyncio.create_task(followed(live, execution_id, quiet[0]))
    tokens = asyncio.create_task(followed(live, execution_id, quiet[1], include="tokens"))
    async with asyncio.timeout(30):
        for each in (model.waiting("deltas"), *quiet):
            await each.wait()
        assert "agentflow_sse_connections" in (await live.get("/metrics")).text
        model.gate("deltas").set()
        deltas = [event for event in await everything if event["event"] == "message.delta"]
        assert {event["event"] for event in await tokens} == {"message.delta"}
    assert all("id" not in event and "seq" not in event["data"] for event in deltas)
    assert {event["data"]["node_id"] for event in deltas} == {"write"}
    assert "".join(event["data"]["data"]["text"] for event in deltas).endswith("two three")


async def test_execute_stream_is_the_log_of_the_new_execution(live, quick):
    async with asyncio.timeout(30):
        answer = await live.post("/workflows/execute/stream", json={"workflow": quick})
    events = parsed(answer.text)
    execution_id = events[0]["data"]["execution_id"]
    assert answer.headers["location"] == f"/api/v1/executions/{execution_id}"
    assert [e for e in events if "id" in e] == await read(live, execution_id)


async def test_dropped_stream_does_not_stop_the_execution(client, live, asking, model):
    body = {"workflow": asking, "initial_state": {"user_input": "wait dropped"}}
    async with asyncio.timeout(30):
        async with live.stream("POST", "/workflows/execute/stream", json=body) as answer:
            execution_id = answer.headers["location"].rsplit("/", 1)[1]
            await model.waiting("dropped").wait()
        model.gate("dropped").set()
        events = await read(live, execution_id)
    assert events[-1]["event"] == "execution.completed"


async def test_events_as_json_show_what_exists_now(client, asking, model):
    execution_id = await started(client, asking, "wait json")
    async with asyncio.timeout(20):
        await model.waiting("json").wait()
        body = (await client.get(f"/executions/{execution_id}/events")).json()
    assert body["complete"] is False
    assert [event["seq"] for event in body["events"]] == list(range(1, body["last_seq"] + 1))
    model.gate("json").set()
    async with asyncio.timeout(20):
        while not body["complete"]:
            body = (await client.get(f"/executions/{execution_id}/events?after=1")).json()
    assert body["events"][0]["seq"] == 2
    assert body["events"][-1]["type"] == "execution.completed"


@pytest.mark.parametrize(
    ("query", "header", "status"),
    [
        ("after=x", None, 422),
        ("after=-1", None, 422),
        ("after=99999999", None, 410),
        ("", "abc", 422),
        ("", "99999999", 410),
        ("include=everything", None, 422),
        ("include=", None, 422),
    ],
)
async def test_events_refuse_a_position_that_cannot_be(client, quick, query, header, status):
    execution_id = await started(client, quick)
    headers = {**SSE, **({"Last-Event-ID": header} if header else {})}
    answer = await client.get(f"/executions/{execution_id}/events?{query}", headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_cancel_is_accepted_then_already_over(client, live, asking, model):
    execution_id = await started(client, asking, "wait cancel")
    async with asyncio.timeout(30):
        await model.waiting("cancel").wait()
        answer = await client.post(f"/executions/{execution_id}/cancel", json={"reason": "enough"})
        assert answer.status_code == 202
        assert answer.json()["execution_id"] == execution_id
        events = await read(live, execution_id)
    assert events[-1]["event"] == "execution.cancelled"
    assert events[-1]["data"]["data"]["reason"] == "enough"
    again = await client.post(f"/executions/{execution_id}/cancel")
    assert again.status_code == 200
    assert again.json() == {"execution_id": execution_id, "status": "cancelled"}
    model.gate("cancel").set()


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"reason": 1}'])
async def test_cancel_refuses_a_wrong_body(client, quick, body):
    execution_id = await started(client, quick)
    answer = await client.post(f"/executions/{execution_id}/cancel", content=body)
    assert answer.status_code == 422
