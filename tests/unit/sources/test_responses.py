"""What is the Responses protocol's own; what all share is in test_same_meaning.py."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.errors import (
    ContentFiltered,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
)
from agentflow.sources.base import BilledError, ModelRequest, ModelSource
from tests.responses_wire import ResponsesWire, Said
from tests.unit.sources.sides import HELLO, side_named

SIDE = side_named("openai responses")


@pytest.mark.parametrize("heard", [None, lambda text: None], ids=["whole", "streamed"])
async def test_accepted_call_that_fails_has_its_type(
    wire: ResponsesWire, source: ModelSource, heard: Any
) -> None:
    expected = {
        "server_error": ProviderUnavailable,
        "bio_policy": ContentFiltered,
        "invalid_prompt": ProviderRejected,
    }
    for code, error in expected.items():
        wire.script(Said("", failed=code))
        with pytest.raises(BilledError) as caught:
            await source.generate(HELLO, heard)
        assert type(caught.value.error) is error, code
    wire.script(Said("", failed="rate_limit_exceeded"))
    with pytest.raises(BilledError) as caught:
        await source.generate(HELLO, heard)
    assert not isinstance(caught.value.error, ProviderRateLimited)  # its tokens were counted


async def test_nothing_is_kept_and_stop_is_refused(
    wire: ResponsesWire, source: ModelSource
) -> None:
    await source.generate(HELLO)
    assert wire.last.body["store"] is False and wire.faults == []
    with pytest.raises(ProviderRejected, match="stop"):
        await source.generate(ModelRequest(messages=HELLO.messages, stop=("END",)))
    assert wire.calls == 1
