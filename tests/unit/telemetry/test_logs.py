import io
import json
import stat

import pytest

from agentflow.execution.events import ErrorInfo, ExecutionFailed, StepFailed, StepTimedOut
from agentflow.telemetry import logs


@pytest.fixture
def stream():
    target = io.StringIO()
    logs.configure("INFO", target)
    yield target
    logs.configure("WARNING")


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_log_tells_the_life_of_a_step(stream, plan, execution_id, life):
    logs.EventLog("af/coordinator/0").on_events(plan, "acme", execution_id, life)
    written = lines(stream)
    assert [line["event"] for line in written] == [
        "execution.created",
        "execution.started",
        "step.completed",
        "step.started",
        "step.retrying",
        "step.started",
        "step.completed",
        "execution.completed",
    ]
    assert {line["execution_id"] for line in written} == {execution_id}
    assert {line["tenant"] for line in written} == {"acme"}
    completed = written[6]
    assert completed["node_id"] == "write"
    assert completed["node_type"] == "llm"
    assert completed["attempt"] == 2
    assert completed["duration_s"] == pytest.approx(2, abs=1e-3)
    assert completed["worker_pid"] == 42
    assert completed["output_tokens"] == 20
    assert completed["coordinator"] == "af/coordinator/0"
    assert written[4]["error_type"] == "ProviderUnavailable"


def test_event_log_writes_no_payload(stream, plan, execution_id, life):
    logs.EventLog().on_events(plan, "acme", execution_id, life)
    assert "secret" not in stream.getvalue()


def test_event_log_warns_of_failures(stream, plan, execution_id, recorded):
    error = ErrorInfo("ProviderAuthError", "bad key sk-1")
    events = [
        StepFailed(at=1, step="write", error=error, policy="fail"),
        StepTimedOut(at=1, step="start", limit_s=1),
        ExecutionFailed(at=1, error=error, node_id="write"),
    ]
    listener = logs.EventLog()
    listener.on_events(plan, "acme", execution_id, recorded(events))
    listener.on_adopted(plan, "acme", execution_id)
    listener.on_released(plan, "acme", execution_id)
    written = lines(stream)
    assert [line["level"] for line in written[:3]] == ["warning"] * 3
    assert written[0]["error_type"] == "ProviderAuthError"
    assert written[2]["node_id"] == "write"
    assert [line["event"] for line in written[3:]] == ["execution.adopted", "execution.released"]
    assert "sk-1" not in stream.getvalue()


def test_log_drops_fields_that_are_not_on_the_list(stream):
    with logs.bound(request_id="req_1", api_key="af-secret"):
        logs.log("api").info("request", status=200, body="hello", authorization="Bearer x")
    (line,) = lines(stream)
    assert line["status"] == 200
    assert line["request_id"] == "req_1"
    assert not {"body", "authorization", "api_key"} & line.keys()


def test_log_respects_the_level(stream):
    logs.configure("ERROR", stream)
    logs.log("api").info("request")
    assert stream.getvalue() == ""


def test_configure_appends_to_a_private_file(tmp_path):
    path = tmp_path / "logs" / "api.log"
    logs.configure("INFO", path)
    logs.log("api").info("request", status=200)
    logs.configure("WARNING")
    assert json.loads(path.read_text())["status"] == 200
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_stack_names_places_and_no_values():
    secret = "sk-1"
    try:
        raise ValueError(secret)
    except ValueError as error:
        (frame,) = logs.stack_of(error)
    assert frame.endswith("test_stack_names_places_and_no_values")
    assert secret not in frame


def test_default_log_goes_to_stderr(capsys):
    logs.log("api").warning("request", status=500)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["status"] == 500
