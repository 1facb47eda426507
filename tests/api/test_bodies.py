import asyncio
import json

import pytest
from starlette.requests import Request

from agentflow.api import bodies, problems
from agentflow.errors import NotSupported


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"{", "line 1, column 2"),
        (b'{"a": 1}\n]', "extra data at line 2"),
        (b"nodes: []", "not valid JSON"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 123456789012345678901234567890}', "64 bits"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "64 bits"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'{"a": "\xff"}', "not UTF-8: invalid byte at offset 7"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' appears twice"),
        ('{"a": "x"}'.encode("utf-16"), "UTF-8"),
    ],
)
def test_decode_refuses_what_is_not_strict_json(raw, said):
    with pytest.raises(problems.Refusal) as refused:
        bodies.decode(raw)
    assert refused.value.status == 422
    assert said in refused.value.detail
    assert len(refused.value.detail) < 300


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -1.5, 2**63, -(2**63), None, True, "é\U0001f600", {}]},
        [],
        "text",
        {"quote": '"[[[{{{\\', "backslash": "\\u0041", "pair": "\U0001f600"},
    ],
)
def test_decode_keeps_every_json_value(value):
    assert bodies.decode(json.dumps(value).encode()).value == value


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_decode_stops_before_deep_nesting(opening):
    with pytest.raises(bodies.TooDeep) as refused:
        bodies.decode(opening * 100_000)
    assert refused.value.is_object == (opening != b"[")


def test_decode_counts_no_brackets_in_strings():
    value = {"[" * 1000: "{" * 1000, "quote": '"[[['}
    assert bodies.decode(json.dumps(value).encode()).value == value


def test_decode_reads_past_a_byte_order_mark():
    assert bodies.decode(b"\xef\xbb\xbf{}").value == {}


def test_order_takes_a_spec_and_its_input():
    order = bodies.order(
        {"workflow": {"nodes": []}, "workflow_id": None, "initial_state": {"a": 1}, "priority": 1}
    )
    assert order.workflow == {"nodes": []}
    assert order.initial_state == {"a": 1}
    assert order.metadata == {}
    assert order.priority == 1


@pytest.mark.parametrize(
    ("value", "status", "detail"),
    [
        ({}, 400, "Invalid input"),
        ({"nodes": [], "start_node": "a"}, 400, "Invalid input"),
        ({"workflow": {}, "workflow_id": "w"}, 400, "Invalid input"),
        ({"workflow_id": "w"}, 404, "Workflow not found"),
        ({"workflow": {}, "initial_state": [1]}, 422, "initial_state must be an object"),
        ({"workflow": {}, "metadata": "x"}, 422, "metadata must be an object"),
        ({"workflow": {}, "priority": 0}, 422, "priority must be"),
        ({"workflow": {}, "priority": True}, 422, "priority must be"),
        ({"workflow": {}, "input": {}}, 422, "not known: 'input'"),
    ],
)
def test_order_refuses_a_wrong_shape(value, status, detail):
    with pytest.raises(problems.Refusal) as refused:
        bodies.order(value)
    assert refused.value.status == status
    assert detail in refused.value.detail
    assert refused.value.problems


def test_order_refuses_deep_input():
    deep: list = []
    for _ in range(70):
        deep = [deep]
    with pytest.raises(problems.Refusal, match="more than 64 levels"):
        bodies.order({"workflow": {}, "initial_state": {"a": deep}})


@pytest.mark.parametrize("field", ["budget", "webhook"])
def test_order_names_what_this_version_cannot_do(field):
    with pytest.raises(NotSupported, match=field):
        bodies.order({"workflow": {}, field: {"usd": 1}})


async def test_body_that_stops_coming_is_refused():
    parts = asyncio.Queue()
    parts.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
    request = Request({"type": "http", "headers": []}, parts.get)
    async with asyncio.timeout(10):
        with pytest.raises(problems.Refusal) as refused:
            await bodies.read(request, idle_s=0.01)
    assert refused.value.status == 408
