import asyncio
import json

from agentflow.api import sse
from agentflow.engine.stream import TokenDelta
from agentflow.errors import StoreUnavailable
from agentflow.execution.events import ExecutionStarted, StepCompleted, StepStarted
from agentflow.execution.journal import Recorded

STARTED = Recorded(1, ExecutionStarted(at=0.0))
STEP = Recorded(2, StepStarted(at=1.5, step="loop@2.1[7]", attempt=3))
DELTA = TokenDelta(step="write", attempt=1, offset=4, text="Hallo\n\ndata: x")
DONE = Recorded(3, StepCompleted(at=2.0, step="write", result={"text": "line\nline"}))


async def items(*batches):
    for batch in batches:
        yield batch


async def collected(stream) -> bytes:
    return b"".join([chunk async for chunk in stream])


def parsed(text: bytes) -> list[dict]:
    found = []
    for block in text.decode().split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if line[:1] not in ("", ":")
        )
        if "data" in fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


def test_frame_of_a_durable_event_has_its_seq_as_id():
    (event,) = parsed(sse.frame("exec_1", STEP))
    assert event["id"] == "2"
    assert event["event"] == "step.started"
    assert event["data"] == {
        "type": "step.started",
        "seq": 2,
        "execution_id": "exec_1",
        "step": "loop@2.1[7]",
        "node_id": "loop",
        "iteration": "2.1",
        "attempt": 3,
        "generation": 0,
        "ts": "1970-01-01T00:00:01.500Z",
        "data": {},
    }


def test_frame_of_a_delta_has_no_id():
    (event,) = parsed(sse.frame("exec_1", DELTA))
    assert "id" not in event
    assert event["event"] == "message.delta"
    assert "seq" not in event["data"]
    assert event["data"]["node_id"] == "write"
    assert event["data"]["data"] == {
        "step": "write",
        "attempt": 1,
        "offset": 4,
        "text": "Hallo\n\ndata: x",
    }


async def test_frames_keep_order_and_filter():
    everything = parsed(await collected(sse.frames(items([STARTED, STEP], [DELTA, DONE]), "e")))
    assert [event.get("id") for event in everything] == ["1", "2", None, "3"]
    durable = parsed(
        await collected(sse.frames(items([STARTED], [DELTA, DONE]), "e", tokens=False))
    )
    assert [event["id"] for event in durable] == ["1", "3"]
    tokens = parsed(await collected(sse.frames(items([STARTED, DELTA]), "e", lifecycle=False)))
    assert [event["event"] for event in tokens] == ["message.delta"]


async def test_frames_comment_while_nothing_happens():
    goes_on = asyncio.Event()

    async def slow():
        yield [STARTED]
        await goes_on.wait()
        yield [STEP]

    stream = sse.frames(slow(), "e", comment_s=0.01)
    seen = b""
    async with asyncio.timeout(5):
        async for chunk in stream:
            seen += chunk
            if sse.COMMENT in seen:
                goes_on.set()
    assert [event["id"] for event in parsed(seen)] == ["1", "2"]


async def test_frames_end_when_the_database_is_away():
    async def broken():
        yield [STARTED]
        raise StoreUnavailable

    text = await collected(sse.frames(broken(), "e"))
    assert [event["id"] for event in parsed(text)] == ["1"]
    assert b": interrupted by StoreUnavailable; reconnect\n\n" in text


async def test_frames_close_their_source_when_the_client_goes_away():
    closed = asyncio.Event()

    async def endless():
        try:
            yield [STARTED]
            await asyncio.Event().wait()
        finally:
            closed.set()

    stream = sse.frames(endless(), "e", comment_s=0.01)
    async with asyncio.timeout(5):
        async for chunk in stream:
            if chunk == sse.COMMENT:
                break
        await stream.aclose()
    assert closed.is_set()
