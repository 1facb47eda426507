"""What Ray's own metrics show of AgentFlow: active executions, steps, tokens, cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from agentflow.execution.events import (
    TERMINAL_EXECUTION,
    Event,
    ModelCall,
    StepCompleted,
    StepFailed,
    StepLate,
    StepRetrying,
    StepTimedOut,
)
from agentflow.execution.journal import Recorded
from agentflow.plan.plan import Plan

PUBLISH_S = 2.0
"""Sums are handed to Ray this often: an update per event would cost more than the step."""


class RayMetrics:
    """Publishes one coordinator's figures through Ray (a ``Listener``).

    Made and used on the coordinator's event loop, inside a Ray process. The only tag is the
    coordinator, so the number of series does not grow.
    """

    def __init__(self, coordinator_id: str, publish_s: float = PUBLISH_S) -> None:
        from ray.util.metrics import Counter, Gauge

        tags = {"tag_keys": ("coordinator",)}
        self._tags = {"coordinator": coordinator_id}
        self._publish_s = publish_s
        self._gauge_active = Gauge(
            "agentflow_active_executions", "Executions that are not over.", **tags
        )
        self._gauge_rate = Gauge("agentflow_steps_per_second", "Steps that ended, now.", **tags)
        self._count_steps = Counter("agentflow_steps", "Steps that ended.", **tags)
        self._count_tokens = Counter("agentflow_tokens", "Tokens of model calls.", **tags)
        self._count_cost = Counter(
            "agentflow_cost_usd", "Cost of model calls in US dollars.", **tags
        )
        self._open: set[str] = set()
        self._steps, self._tokens, self._cost = 0, 0, 0.0
        self._published_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._publish()

    def on_events(
        self, plan: Plan, tenant: str, execution_id: str, recorded: Sequence[Recorded]
    ) -> None:
        self._open.add(execution_id)
        for record in recorded:
            self._count(execution_id, record.event)

    def on_adopted(self, plan: Plan, tenant: str, execution_id: str) -> None:
        self._open.add(execution_id)

    def on_released(self, plan: Plan, tenant: str, execution_id: str) -> None:
        self._open.discard(execution_id)

    def close(self) -> None:
        """Publish a last time and stop."""
        self._publish()
        if self._timer is not None:
            self._timer.cancel()

    def _count(self, execution_id: str, event: Event) -> None:
        match event:
            case StepCompleted(calls=calls) | StepFailed(calls=calls):
                self._steps += 1
                self._bill(calls)
            case StepTimedOut():
                self._steps += 1
            case StepRetrying(calls=calls) | StepLate(calls=calls):
                self._bill(calls)
            case _ if isinstance(event, TERMINAL_EXECUTION):
                self._open.discard(execution_id)

    def _bill(self, calls: Sequence[ModelCall]) -> None:
        self._tokens += sum(call.usage.total for call in calls)
        self._cost += sum(call.cost for call in calls)

    def _publish(self) -> None:
        now = time.monotonic()
        elapsed = max(now - self._published_at, 1e-3)
        self._gauge_active.set(len(self._open), self._tags)
        self._gauge_rate.set(self._steps / elapsed, self._tags)
        for counter, value in (
            (self._count_steps, self._steps),
            (self._count_tokens, self._tokens),
            (self._count_cost, self._cost),
        ):
            if value > 0:
                counter.inc(value, self._tags)
        self._steps, self._tokens, self._cost = 0, 0, 0.0
        self._published_at = now
        self._timer = asyncio.get_running_loop().call_later(self._publish_s, self._publish)
