import pytest
from prometheus_client.parser import text_string_to_metric_families

from agentflow.execution.events import (
    ErrorInfo,
    ExecutionFailed,
    ExecutionTimedOut,
    ModelCall,
    StepFailed,
    StepLate,
    StepTimedOut,
    Usage,
    Worker,
)
from agentflow.ids import new_id
from agentflow.telemetry.metrics import Bounded, MetricsListener, RequestMetrics, merge


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, tuple(sorted(labels.items()))]


def test_listener_counts_a_whole_life(plan, execution_id, life):
    listener = MetricsListener()
    listener.on_events(plan, "acme", execution_id, life[:4])
    assert value(listener.text(), "agentflow_active_executions") == 1
    listener.on_events(plan, "acme", execution_id, life[4:])
    text = listener.text()
    assert value(text, "agentflow_active_executions") == 0
    assert value(text, "agentflow_executions_total", workflow="greeting", status="completed") == 1
    assert value(text, "agentflow_execution_duration_seconds_sum") == pytest.approx(4, abs=1e-3)
    assert value(text, "agentflow_step_retries_total", reason="ProviderUnavailable") == 1
    labels = {"source": "gpt", "model": "m1"}
    assert value(text, "agentflow_llm_tokens_total", direction="input", **labels) == 15
    assert value(text, "agentflow_llm_tokens_total", direction="output", **labels) == 20
    assert value(text, "agentflow_cost_usd_total", **labels) == 0.25


def test_step_duration_spans_all_attempts_and_inline_steps(plan, execution_id, life):
    listener = MetricsListener()
    listener.on_events(plan, "acme", execution_id, life)
    text = listener.text()
    name = "agentflow_step_duration_seconds_sum"
    assert value(text, name, type="llm", status="completed") == pytest.approx(2, abs=1e-3)
    assert value(text, name, type="input", status="completed") == pytest.approx(0.25, abs=1e-3)


def test_adopted_execution_is_active_until_it_ends_or_is_released(plan, execution_id, life):
    listener = MetricsListener()
    other = new_id("exec")
    listener.on_adopted(plan, "acme", execution_id)
    listener.on_adopted(plan, "acme", other)
    assert value(listener.text(), "agentflow_active_executions") == 2
    listener.on_released(plan, "acme", other)
    listener.on_events(plan, "acme", execution_id, life[-2:])
    text = listener.text()
    assert value(text, "agentflow_active_executions") == 0
    name = "agentflow_step_duration_seconds_sum"
    assert value(text, name, type="llm", status="completed") == pytest.approx(0.4)
    assert value(text, "agentflow_execution_duration_seconds_sum") == pytest.approx(4, abs=1e-3)


def test_errors_are_counted_once_each(plan, execution_id, recorded, accepted_at):
    at = accepted_at(execution_id)
    error = ErrorInfo("ProviderAuthError", "no")
    listener = MetricsListener()
    listener.on_events(
        plan,
        "acme",
        execution_id,
        recorded(
            [
                StepFailed(at=at, step="write", error=error, worker=Worker(pid=1, seconds=1)),
                StepTimedOut(at=at, step="start", limit_s=1),
                ExecutionFailed(at=at, error=error, node_id="write"),
            ]
        ),
    )
    late = new_id("exec")
    listener.on_events(
        plan, "acme", late, recorded([ExecutionTimedOut(at=accepted_at(late), limit_s=1)])
    )
    text = listener.text()
    assert value(text, "agentflow_errors_total", type="ProviderAuthError") == 1
    assert value(text, "agentflow_errors_total", type="StepTimeout") == 1
    assert value(text, "agentflow_errors_total", type="ExecutionTimedOut") == 1
    name = "agentflow_executions_total"
    assert value(text, name, workflow="greeting", status="failed") == 1
    assert value(text, name, workflow="greeting", status="timed_out") == 1


def test_late_results_are_billed(plan, execution_id, recorded):
    listener = MetricsListener()
    late = StepLate(at=1, step="write", calls=(ModelCall("s", "p", "m", Usage(1, 2), 0.5),))
    listener.on_events(plan, "acme", execution_id, recorded([late]))
    assert value(listener.text(), "agentflow_cost_usd_total", source="s", model="m") == 0.5


def test_workflow_label_is_bounded(make_plan, recorded, accepted_at):
    listener = MetricsListener()
    for number in range(130):
        execution_id = new_id("exec")
        done = ExecutionTimedOut(at=accepted_at(execution_id), limit_s=1)
        listener.on_events(make_plan(f"w{number}"), "acme", execution_id, recorded([done]))
    counted = {
        labels: count
        for (name, labels), count in samples(listener.text()).items()
        if name == "agentflow_executions_total"
    }
    assert len(counted) == 101
    assert counted[("status", "timed_out"), ("workflow", "other")] == 30


def test_bounded_keeps_known_values_when_full():
    bounded = Bounded(1)
    assert [bounded("a"), bounded("b"), bounded("a")] == ["a", "other", "a"]


def test_merge_labels_each_sample_and_names_each_family_once(plan, execution_id, life):
    first, second = MetricsListener(), MetricsListener()
    first.on_events(plan, "acme", execution_id, life)
    second.on_adopted(plan, "acme", new_id("exec"))
    merged = merge({"af/coordinator/0": first.text(), "af/coordinator/1": second.text()})
    assert merged.count("# TYPE agentflow_active_executions gauge") == 1
    assert merged.count("# TYPE agentflow_executions_total counter") == 1
    name = "agentflow_active_executions"
    assert value(merged, name, coordinator="af/coordinator/0") == 0
    assert value(merged, name, coordinator="af/coordinator/1") == 1
    assert (
        value(
            merged,
            "agentflow_step_duration_seconds_bucket",
            coordinator="af/coordinator/0",
            type="llm",
            status="completed",
            le="2.5",
        )
        == 1
    )


def test_merge_of_nothing_is_empty():
    assert merge({}) == ""


def test_request_metrics_count_by_route():
    metrics = RequestMetrics()
    metrics.answered("GET", "/executions/{execution_id}", 404, 0.002)
    metrics.streams.inc()
    text = metrics.text()
    labels = {"method": "GET", "route": "/executions/{execution_id}"}
    assert value(text, "agentflow_http_requests_total", status="404", **labels) == 1
    assert value(text, "agentflow_http_request_duration_seconds_count", **labels) == 1
    assert value(text, "agentflow_sse_connections") == 1
