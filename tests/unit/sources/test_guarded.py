"""A source behind its breaker, as its configuration says."""

from __future__ import annotations

import pytest

from agentflow.errors import ProviderUnavailable
from agentflow.plan.plan import PlanSource
from agentflow.sources.base import Message, ModelRequest
from agentflow.sources.connections import Connections
from agentflow.sources.credentials import Credentials
from agentflow.sources.guarded import guarded
from agentflow.sources.hosted import hosted_openers
from tests.fake_provider import FakeProvider, Status
from tests.unit.sources.conftest import LOOPBACK

HELLO = ModelRequest(messages=(Message("user", "hello there"),))


async def test_breaker_opens_after_as_many_failures_as_the_source_says(
    provider: FakeProvider,
) -> None:
    openers = hosted_openers(LOOPBACK, Credentials({}, lambda name: False))
    connections = Connections({name: guarded(each) for name, each in openers.items()})
    config = {"model": "m", "base_url": provider.base_url}
    config["breaker"] = {"failures": 2, "reset_s": 600.0}
    source = PlanSource("main", "llm", "vllm", config)
    model = await connections.open(source, "t1")
    provider.default = Status(500)
    for _ in range(2):
        with pytest.raises(ProviderUnavailable, match="500"):
            await model.generate(HELLO)
    with pytest.raises(ProviderUnavailable, match="2 times in a row") as caught:
        await model.generate(HELLO)
    assert caught.value.uncounted and caught.value.after > 400 and provider.calls == 2
    await connections.close()
