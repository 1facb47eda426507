"""Plans by content hash: compiled once, shared by every execution of the same version."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

from agentflow.plan.compile import compile_plan
from agentflow.plan.plan import Plan

Json = Any


class Plans:
    """A bounded cache; the least recently used plan goes first. Loss is harmless.
    Safe to use from several threads."""

    def __init__(self, size: int = 1000) -> None:
        self._size = size
        self._lock = Lock()
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def of(self, content_hash: str, spec: dict[str, Json]) -> Plan:
        """The plan of a normalised spec. Raises SpecInvalid."""
        with self._lock:
            plan = self._plans.get(content_hash)
            if plan is not None:
                self._plans.move_to_end(content_hash)
                return plan
        plan = compile_plan(spec)
        with self._lock:
            self._plans[content_hash] = plan
            if len(self._plans) > self._size:
                self._plans.popitem(last=False)
        return plan
