import asyncio
import contextlib
import io
import json
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

import agentflow
from agentflow.telemetry import logs


async def test_root_names_the_service(anonymous):
    answer = await anonymous.get("/")
    assert answer.json() == {
        "service": "agentflow",
        "version": agentflow.__version__,
        "status": "ok",
    }


@pytest.mark.parametrize("path", ["/health", "/api/v1/health"])
async def test_health_names_its_dependencies(anonymous, path):
    await anonymous.get(path)
    began = time.monotonic()
    body = (await anonymous.get(path)).json()
    assert time.monotonic() - began < 0.1
    assert body["status"] == "ok"
    assert body["version"] == agentflow.__version__
    assert body["uptime"] >= 0
    assert set(body["dependencies"]) == {"database", "queue", "ray"}
    assert body["dependencies"]["database"] == "ok"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health/ready", "ready"),
        ("/ready", "ready"),
        ("/health/live", "alive"),
        ("/live", "alive"),
    ],
)
async def test_probes_answer(anonymous, path, status):
    answer = await anonymous.get(path)
    assert answer.status_code == 200
    assert answer.json() == {"status": status}


async def test_metrics_count_executions_steps_tokens_and_requests(client, live, asking):
    def read(text: str, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    wanted = [
        ("agentflow_executions_total", {"workflow": "asking", "status": "completed"}, 1),
        ("agentflow_executions_total", {"workflow": "asking", "status": "failed"}, 1),
        ("agentflow_execution_duration_seconds_count", {}, 2),
        ("agentflow_step_duration_seconds_count", {"type": "llm", "status": "completed"}, 1),
        ("agentflow_llm_tokens_total", {"source": "gpt", "direction": "input"}, 5),
        ("agentflow_llm_tokens_total", {"source": "gpt", "direction": "output"}, 3),
        ("agentflow_errors_total", {"type": "ProviderAuthError"}, 1),
        ("agentflow_http_requests_total", {"route": "/workflows/execute", "status": "200"}, 1),
        ("agentflow_http_requests_total", {"route": "/workflows/execute", "status": "500"}, 1),
    ]
    before = (await client.get("/metrics")).text
    for prompt in ("hello", "refuse"):
        body = {"workflow": asking, "initial_state": {"user_input": prompt}}
        await client.post("/workflows/execute", json=body)
    grown: list[float] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):  # listeners hear of an event after it is durable
            while grown != [more for _, _, more in wanted]:
                answer = await live.get("/metrics")
                assert answer.headers["content-type"].startswith("text/plain")
                grown = [
                    read(answer.text, name, **labels) - read(before, name, **labels)
                    for name, labels, _ in wanted
                ]
    assert grown == [more for _, _, more in wanted]
    assert read(answer.text, "agentflow_active_executions") >= 0


async def test_answers_carry_request_id_and_trace(client):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await client.get("/nowhere", headers={"X-Request-Id": "r-1", "traceparent": trace})
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["traceparent"] == trace
    assert answer.json()["request_id"] == "r-1"
    assert answer.json()["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


async def test_bad_request_id_and_trace_are_replaced(client):
    answer = await client.get("/live", headers={"X-Request-Id": "a b\t", "traceparent": "00-zz"})
    assert answer.headers["x-request-id"].startswith("req_")
    assert len(answer.headers["traceparent"]) == 55


async def test_cors_lists_its_origins(anonymous):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    known = await anonymous.options(
        "/workflows/execute", headers={"Origin": "https://console.example", **asked}
    )
    assert known.headers["access-control-allow-origin"] == "https://console.example"
    other = await anonymous.options(
        "/workflows/execute", headers={"Origin": "https://evil.example", **asked}
    )
    assert "access-control-allow-origin" not in other.headers


async def test_request_is_logged_without_secrets(client):
    stream = io.StringIO()
    logs.configure("INFO", stream)
    try:
        await client.get("/executions?cursor=", headers={"X-Request-Id": "logged"})
    finally:
        logs.configure("WARNING")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "logged"]
    assert line["event"] == "request"
    assert line["route"] == "/executions"
    assert line["tenant"].startswith("ten_")
    assert client.headers["X-API-Key"] not in stream.getvalue()


async def test_openapi_describes_the_canonical_paths(anonymous):
    document = (await anonymous.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    paths = document["paths"]
    assert "/api/v1/workflows/execute" in paths
    assert all(path == "/" or path.startswith("/api/v1/") for path in paths)
    operations = [operation for methods in paths.values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert paths["/api/v1/health"]["get"]["security"] == []


async def test_docs_load_nothing_from_outside(anonymous):
    for path in ("/docs", "/redoc"):
        page = await anonymous.get(path)
        assert page.status_code == 200
        assert "http" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
