import asyncio
import gzip
import json

import pytest

DEEP = 100_000
BODIES = {
    "nothing": b"",
    "not JSON": b"nodes: []",
    "list": b"[]",
    "text": b'"x"',
    "number": b"1",
    "null": b"null",
    "NaN": b'{"workflow": {"nodes": NaN}}',
    "number too large": b'{"workflow": 1e999}',
    "lone surrogate": b'{"workflow": {"name": "\\ud800"}}',
    "duplicate key": b'{"workflow": {}, "workflow": {}}',
    "invalid UTF-8": b'{"workflow": "\xff"}',
    "truncated": b'{"workflow": {"nodes": [',
    "deep list": b"[" * DEEP + b"]" * DEEP,
}


@pytest.mark.parametrize("path", ["validate", "execute", "execute/async", "execute/stream"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_malformed_body_is_a_422_problem(client, path, body):
    async with asyncio.timeout(20):
        answer = await client.post(f"/workflows/{path}", content=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["code"] == "VALIDATION_ERROR"
    assert len(found["detail"]) < 500
    assert "Traceback" not in answer.text


def deep_object(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize("levels", [70, DEEP])
@pytest.mark.parametrize("wrapped", [False, True])
async def test_deep_spec_is_e026_when_validated(client, levels, wrapped):
    spec = deep_object(levels)
    body = b'{"workflow": ' + spec + b"}" if wrapped else spec
    async with asyncio.timeout(20):
        answer = await client.post("/workflows/validate", content=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["valid"] is False
    assert "E026" in [error["code"] for error in answer.json()["errors"]]


@pytest.mark.parametrize(("levels", "status"), [(70, 400), (DEEP, 422)])
async def test_deep_spec_is_not_executed(client, levels, status):
    body = b'{"workflow": ' + deep_object(levels) + b"}"
    async with asyncio.timeout(20):
        answer = await client.post("/workflows/execute", content=body)
    assert answer.status_code == status, answer.text
    assert "64" in answer.text


@pytest.mark.parametrize("wrapped", [False, True])
async def test_spec_of_six_megabytes_is_e026(client, quick, wrapped):
    large = {**quick, "description": "x" * 6_000_000}
    body = json.dumps({"workflow": large} if wrapped else large)
    async with asyncio.timeout(30):
        answer = await client.post("/workflows/validate", content=body)
    assert answer.status_code == 200, answer.text[:500]
    assert [error["code"] for error in answer.json()["errors"]] == ["E026"]


async def test_spec_of_six_megabytes_is_not_executed(client, quick):
    large = {**quick, "description": "x" * 6_000_000}
    async with asyncio.timeout(30):
        answer = await client.post("/workflows/execute", json={"workflow": large})
    assert answer.status_code == 400, answer.text[:500]
    assert [error["code"] for error in answer.json()["errors"]] == ["E026"]


@pytest.mark.parametrize("announced", [True, False])
async def test_body_over_eight_megabytes_is_413(live, announced):
    async def chunks():
        for _ in range(9):
            yield b" " * 1024 * 1024

    content = b" " * (9 * 1024 * 1024) if announced else chunks()
    async with asyncio.timeout(30):
        answer = await live.post("/workflows/validate", content=content)
    assert answer.status_code == 413
    assert answer.json()["code"] == "PAYLOAD_TOO_LARGE"


async def test_input_of_some_megabytes_is_accepted(client, quick):
    async with asyncio.timeout(60):
        answer = await client.post(
            "/workflows/execute",
            json={"workflow": quick, "initial_state": {"user_input": "x" * 3_000_000}},
        )
    assert answer.status_code == 200, answer.text[:500]


@pytest.mark.parametrize(
    "state",
    [
        {"user_input": "nul \u0000 inside", "other": {"deep": [1, 2.5, None, True, ""]}},
        {"": "empty key", "a b": 1, "é": "ü", "$": [], "quote\"'": "\\"},
        {"big": 2**63, "small": -(2**63), "emoji": "\U0001f600"},
    ],
)
async def test_any_json_is_input(client, quick, state):
    async with asyncio.timeout(30):
        answer = await client.post(
            "/workflows/execute", json={"workflow": quick, "initial_state": state}
        )
    assert answer.status_code == 200, answer.text
    shown = await client.get(f"/executions/{answer.json()['execution_id']}")
    assert shown.json()["initial_state"] == state


@pytest.mark.parametrize("workflow", [[], "text", 1, True, {"nodes": "x"}, {"nodes": []}])
async def test_workflow_of_a_wrong_shape_is_an_invalid_spec(client, workflow):
    answer = await client.post("/workflows/execute", json={"workflow": workflow})
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"]


async def test_wrong_method_and_wrong_path_are_problems(client):
    wrong = await client.delete("/workflows/execute")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert wrong.json()["code"] == "METHOD_NOT_ALLOWED"
    nowhere = await client.get("/api/v1/nowhere")
    assert nowhere.status_code == 404
    assert nowhere.json()["code"] == "NOT_FOUND"


async def test_compressed_body_is_refused_in_words(client):
    packed = gzip.compress(b"{}")
    answer = await client.post(
        "/workflows/execute", content=packed, headers={"Content-Encoding": "gzip"}
    )
    assert answer.status_code == 422
    assert "Content-Encoding" in answer.json()["detail"]


async def test_name_that_the_database_cannot_hold_harms_nobody_else(client, quick):
    async with asyncio.timeout(30):
        for path in ("execute", "execute/async"):
            answer = await client.post(
                f"/workflows/{path}", json={"workflow": {**quick, "name": "a\0b"}}
            )
            assert answer.status_code != 503, answer.text
        for _ in range(8):
            answer = await client.post("/workflows/execute", json={"workflow": quick})
            assert answer.status_code == 200, answer.text
