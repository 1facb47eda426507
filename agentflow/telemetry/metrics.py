"""Prometheus metrics: what coordinators count from events, what API replicas count, the merge.

The only door to prometheus_client. Each owner has its own registry, so two of them in one process
never mix. Labels that users can choose (workflow, source, model) are bounded: the first hundred
values are kept, later ones become ``other``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from agentflow import ids
from agentflow.execution.events import (
    TERMINAL_EXECUTION,
    Event,
    ExecutionCreated,
    ExecutionFailed,
    ExecutionTimedOut,
    ModelCall,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepLate,
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepTimedOut,
    kind,
)
from agentflow.execution.journal import Recorded
from agentflow.execution.keys import node_id_of
from agentflow.plan.plan import Plan

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
STEPS = "steps"
"""The cache of results of steps, as the label ``cache`` names it."""
MAX_VALUES = 100
EXECUTION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
STEP_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600)
REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Bounded:
    """Lets the first ``limit`` distinct values of a label through; the others become ``other``."""

    def __init__(self, limit: int = MAX_VALUES) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) < self._limit:
            self._seen.add(value)
            return value
        return OTHER


class MetricsListener:
    """Counts the executions of one coordinator from their committed events (a ``Listener``).

    A take-over moves an execution between listeners: each event is counted by the one that heard
    it, so sums over coordinators count nothing twice. The duration of a step that began under
    another owner is what its worker reported.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._open: dict[str, dict[tuple[str, int], float]] = {}
        """Open executions -> when their open steps started."""
        self._workflow, self._source, self._model = Bounded(), Bounded(), Bounded()
        registry = self._registry
        self._executions = Counter(
            "agentflow_executions",
            "Executions that ended.",
            ("workflow", "status"),
            registry=registry,
        )
        self._execution_seconds = Histogram(
            "agentflow_execution_duration_seconds",
            "Time from acceptance to the end.",
            registry=registry,
            buckets=EXECUTION_BUCKETS,
        )
        self._active = Gauge(
            "agentflow_active_executions", "Executions that are not over.", registry=registry
        )
        self._step_seconds = Histogram(
            "agentflow_step_duration_seconds",
            "Time from the start of a step's first attempt to its end.",
            ("type", "status"),
            registry=registry,
            buckets=STEP_BUCKETS,
        )
        self._timed = cache(self._step_seconds.labels)
        self._retries = Counter(
            "agentflow_step_retries", "Attempts that were repeated.", ("reason",), registry=registry
        )
        self._tokens = Counter(
            "agentflow_llm_tokens",
            "Tokens of model calls; input includes cached ones.",
            ("source", "model", "direction"),
            registry=registry,
        )
        self._cost = Counter(
            "agentflow_cost_usd",
            "Cost of model calls in US dollars.",
            ("source", "model"),
            registry=registry,
        )
        self._hits = Counter(
            "agentflow_cache_hits",
            "Results that were reused instead of worked for.",
            ("cache",),
            registry=registry,
        )
        self._misses = Counter(
            "agentflow_cache_misses",
            "Results that were worked for although an earlier one would have done.",
            ("cache",),
            registry=registry,
        )
        self._errors = Counter(
            "agentflow_errors", "Steps and executions that failed.", ("type",), registry=registry
        )

    def on_events(
        self, plan: Plan, tenant: str, execution_id: str, recorded: Sequence[Recorded]
    ) -> None:
        for record in recorded:
            self._count(plan, execution_id, record.event)
        self._active.set(len(self._open))

    def on_adopted(self, plan: Plan, tenant: str, execution_id: str) -> None:
        self._open.setdefault(execution_id, {})
        self._active.set(len(self._open))

    def on_released(self, plan: Plan, tenant: str, execution_id: str) -> None:
        self._open.pop(execution_id, None)
        self._active.set(len(self._open))

    def text(self) -> str:
        """The metrics in Prometheus' text format."""
        return _text(self._registry)

    def _count(self, plan: Plan, execution_id: str, event: Event) -> None:
        match event:
            case ExecutionCreated():
                self._open[execution_id] = {}
            case StepStarted(step=step, generation=generation, at=at):
                self._open.setdefault(execution_id, {}).setdefault((step, generation), at)
            case StepRetrying(error=error, calls=calls):
                self._retries.labels(error.type).inc()
                self._bill(calls)
            case StepLate(calls=calls):
                self._bill(calls)
            case StepCompleted() | StepFailed() | StepTimedOut() | StepSkipped() | StepCancelled():
                self._end_step(plan, execution_id, event)
        if isinstance(event, TERMINAL_EXECUTION):
            self._end(plan, execution_id, event)

    def _end_step(
        self,
        plan: Plan,
        execution_id: str,
        event: StepCompleted | StepFailed | StepTimedOut | StepSkipped | StepCancelled,
    ) -> None:
        started = self._open.get(execution_id, {}).pop((event.step, event.generation), None)
        if isinstance(event, StepCompleted) and event.started_at is not None:
            started = event.started_at
        worker = getattr(event, "worker", None)
        if started is not None:
            seconds = max(0.0, event.at - started)
        elif worker is not None:
            seconds = worker.seconds
        else:
            seconds = None
        if seconds is not None:
            status = kind(event).removeprefix("step.")
            self._timed(_type_of(plan, event.step), status).observe(seconds)
        if isinstance(event, StepCompleted | StepFailed):
            self._bill(event.calls)
        if isinstance(event, StepCompleted) and not event.reused_from:
            self._note_reuse(plan, event)
        if isinstance(event, StepFailed):
            self._errors.labels(event.error.type).inc()
        elif isinstance(event, StepTimedOut):
            self._errors.labels("StepTimeout").inc()

    def _note_reuse(self, plan: Plan, event: StepCompleted) -> None:
        """A step whose node asks for reuse had an earlier result, or was worked for."""
        index = plan.ids.get(node_id_of(event.step))
        if event.cached is not None:
            self._hits.labels(STEPS).inc()
        elif index is not None and plan.nodes[index].cache is not None:
            self._misses.labels(STEPS).inc()

    def _end(self, plan: Plan, execution_id: str, event: Event) -> None:
        self._open.pop(execution_id, None)
        status = kind(event).removeprefix("execution.")
        self._executions.labels(self._workflow(plan.name or "unnamed"), status).inc()
        accepted = _accepted_at(execution_id)
        if accepted is not None:
            self._execution_seconds.observe(max(0.0, event.at - accepted))
        if isinstance(event, ExecutionTimedOut):
            self._errors.labels("ExecutionTimedOut").inc()
        elif isinstance(event, ExecutionFailed) and event.node_id is None:
            self._errors.labels(event.error.type).inc()

    def _bill(self, calls: Iterable[ModelCall]) -> None:
        for call in (each for each in calls if each.answered):
            source, model = self._source(call.source), self._model(call.model)
            self._tokens.labels(source, model, "input").inc(max(0, call.usage.input_tokens))
            self._tokens.labels(source, model, "output").inc(max(0, call.usage.output_tokens))
            self._cost.labels(source, model).inc(max(0.0, call.cost))


class RequestMetrics:
    """What one API replica counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "agentflow_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "agentflow_http_request_duration_seconds",
            "Time from the request to the end of its answer.",
            ("method", "route"),
            registry=self._registry,
            buckets=REQUEST_BUCKETS,
        )
        self.streams = Gauge(
            "agentflow_sse_connections", "Open event streams.", registry=self._registry
        )
        self._counted = cache(self._requests.labels)
        self._timed = cache(self._seconds.labels)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request is over; ``route`` is the template, never the path with its ids."""
        self._counted(method, route, str(status)).inc()
        self._timed(method, route).observe(seconds)

    def text(self) -> str:
        """The metrics in Prometheus' text format."""
        return _text(self._registry)


def merge(texts: Mapping[str, str], label: str = "coordinator") -> str:
    """One text of several: each family once, each sample labelled with the owner it came from.

    Raises ValueError when one of them is not Prometheus text.
    """
    families: dict[str, Metric] = {}
    for owner, text in sorted(texts.items()):
        for family in text_string_to_metric_families(text):
            merged = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                merged.add_sample(sample.name, {label: owner, **sample.labels}, sample.value)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families.values()))
    return _text(registry)


class _Families:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _text(registry: CollectorRegistry) -> str:
    return prometheus_client.generate_latest(registry).decode()


def _type_of(plan: Plan, step: str) -> str:
    index = plan.ids.get(node_id_of(step))
    return OTHER if index is None else plan.nodes[index].type


def _accepted_at(execution_id: str) -> float | None:
    """When the id was made, which is when the execution was accepted: ids carry their time."""
    try:
        value = ids.to_uuid(execution_id, "exec")
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == 7 else None
