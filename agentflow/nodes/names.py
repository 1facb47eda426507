"""The names that expressions of a node may use."""

from __future__ import annotations

from agentflow.nodes.base import StepContext


def declared_names(context: StepContext) -> dict[str, str]:
    """Name -> type: every state field, ``state``, ``outputs`` and ``execution``."""
    fields = {name: field.type for name, field in context.fields.items()}
    return {**fields, "state": "object", "outputs": "object", "execution": "object"}
