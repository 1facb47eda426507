"""Contexts for single steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentflow.nodes.base import StepContext
from agentflow.plan.plan import Field, PlanNode, Retry
from agentflow.spec.kinds.catalogue import node_kind
from agentflow.spec.state import BUILTIN

NewContext = Callable[..., StepContext]


@pytest.fixture
def new_context() -> NewContext:
    """Makes the context of a step: node type, options as an author writes them, view, and more."""

    def make(
        node_type: str, options: dict[str, Any], view: dict[str, Any], **more: Any
    ) -> StepContext:
        kind = node_kind(node_type)
        assert kind is not None and kind.options is not None
        filled = kind.options.model_validate(options).model_dump(by_alias=True)
        node = PlanNode(
            index=0,
            id="n1",
            type=node_type,
            options=filled,
            rank=0,
            placement="inline",
            effects="pure",
            retry=Retry(),
        )
        fields = {
            name: Field(name, field.type, field.merge, field.default)
            for name, field in BUILTIN.items()
        }
        given = {"outputs": {}, "execution": {"id": "exec_1"}, **view}
        values: dict[str, Any] = {"tenant": "t1", "execution_id": "exec_1", "step": "n1"}
        return StepContext(node=node, view=given, fields=fields, **(values | more))

    return make
