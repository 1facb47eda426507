"""Listeners: told of events after they are durable. Logs and metrics hang here; they decide nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agentflow.execution.journal import Recorded
from agentflow.plan.plan import Plan


class Listener(Protocol):
    """Hears the committed events of every execution of one coordinator, in order per execution."""

    def on_events(
        self, plan: Plan, tenant: str, execution_id: str, recorded: Sequence[Recorded]
    ) -> None:
        """Called on the engine's loop; must return quickly and not raise."""
        ...

    def on_adopted(self, plan: Plan, tenant: str, execution_id: str) -> None:
        """An execution that another coordinator began now goes on here."""
        ...

    def on_released(self, plan: Plan, tenant: str, execution_id: str) -> None:
        """An open execution is no longer ours (fenced out, or drained)."""
        ...
