"""Contexts for single steps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from agentflow.addresses import Policy
from agentflow.errors import SourceNotFound
from agentflow.nodes.base import StepContext
from agentflow.plan.plan import Field, PlanNode, Retry
from agentflow.sources.base import Source
from agentflow.sources.credentials import Credentials
from agentflow.sources.openai import open_openai
from agentflow.spec.kinds.catalogue import node_kind
from agentflow.spec.rules.options import options_of
from agentflow.spec.state import BUILTIN
from tests.fake_provider import FakeProvider

NewContext = Callable[..., StepContext]


@pytest.fixture
def new_context() -> NewContext:
    """Makes the context of a step: node type, options as an author writes them, view, and more."""

    def make(
        node_type: str, options: dict[str, Any], view: dict[str, Any], **more: Any
    ) -> StepContext:
        kind = node_kind(node_type)
        assert kind is not None
        filled = options_of(kind, options)
        kind = kind.refined(filled)
        node = PlanNode(
            index=0,
            id="n1",
            type=node_type,
            options=filled,
            rank=0,
            placement=kind.placement,
            effects=kind.effects,
            retry=Retry(max_attempts=kind.attempts),
        )
        fields = {
            name: Field(name, field.type, field.merge, field.default)
            for name, field in BUILTIN.items()
        }
        given = {"outputs": {}, "execution": {"id": "exec_1"}, **view}
        values: dict[str, Any] = {"tenant": "t1", "execution_id": "exec_1", "step": "n1"}
        return StepContext(node=node, view=given, fields=fields, **(values | more))

    return make


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def model_step(provider: FakeProvider, new_context: NewContext) -> AsyncIterator[NewContext]:
    """Makes contexts of steps whose source ``main`` is the provider."""
    price = {"input_per_mtok": 1.0, "output_per_mtok": 2.0}
    source = await open_openai(
        "main",
        "openai-compatible",
        {"model": "m1", "base_url": provider.base_url, "price": price},
        policy=Policy(allow=(ip_network("127.0.0.0/8"),)),
        credentials=Credentials({}, lambda name: False),
    )

    async def open_source(source_id: str) -> Source:
        if source_id != "main":
            raise SourceNotFound(source_id)
        return source

    def make(
        node_type: str, options: dict[str, Any], view: dict[str, Any], **more: Any
    ) -> StepContext:
        given = {"source": "main", **options}
        return new_context(node_type, given, view, open_source=open_source, **more)

    yield make
    await source.close()
