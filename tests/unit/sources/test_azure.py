"""What is Azure's own; what all providers share is in test_same_meaning.py."""

from __future__ import annotations

import pytest

from agentflow.errors import ContentFiltered, ProviderAuthError, ProviderRejected
from agentflow.sources.base import ModelRequest
from agentflow.sources.credentials import Credentials
from agentflow.sources.openai import open_openai
from tests.chat_wire import ChatWire, Refused, Said
from tests.unit.sources.conftest import CANARY, LOOPBACK
from tests.unit.sources.sides import HELLO, side_named

SIDE = side_named("azure")
V1 = side_named("azure v1")


async def test_entra_token_goes_as_bearer() -> None:
    with ChatWire("azure v1", Said("ok"), Refused(401, "expired", echo_key=True)) as wire:
        source = await open_openai(
            "main",
            "azure",
            {**V1.config(wire), "token_env": "AZURE_OPENAI_AD_TOKEN"},
            policy=LOOPBACK,
            credentials=Credentials({"AZURE_OPENAI_AD_TOKEN": CANARY}, lambda name: True),
        )
        with pytest.raises(ProviderRejected):  # the wire of a key wants its header
            await source.generate(HELLO)
        assert wire.last.headers["authorization"] == f"Bearer {CANARY}"
        assert "api-key" not in wire.last.headers
        assert wire.faults == ["no header api-key"]
        await source.close()


async def test_v1_api_is_called_without_a_version() -> None:
    with ChatWire("azure v1") as wire:
        source = await V1.connect(wire)
        for heard in (None, lambda text: None):
            assert (await source.generate(HELLO, heard)).text == "ok"
            assert wire.last.path == "/openai/v1/chat/completions"
            assert wire.last.body["model"] == "gpt 4o" and wire.last.headers["api-key"] == CANARY
            assert "max_completion_tokens" in wire.last.body
        assert wire.faults == []
        await source.close()


async def test_deployment_is_called_by_its_name_and_version() -> None:
    with ChatWire("azure") as wire:
        source = await SIDE.connect(wire, model="o4-mini")
        await source.generate(ModelRequest(messages=HELLO.messages, max_tokens=9))
        assert wire.last.path.endswith("/gpt%204o/chat/completions?api-version=2024-10-21")
        assert wire.last.body["max_completion_tokens"] == 9  # a reasoning model, by its own name
        assert "temperature" not in wire.last.body and wire.faults == []
        await source.close()


async def test_refusals_name_what_is_wrong() -> None:
    filtered = Refused(400, "triggering content management policy", "content_filter")
    with ChatWire("azure", filtered, Refused(401, "no")) as wire:
        source = await SIDE.connect(wire)
        with pytest.raises(ContentFiltered):
            await source.generate(HELLO)
        with pytest.raises(ProviderAuthError, match="AZURE_OPENAI_API_KEY"):
            await source.generate(HELLO)
        await source.close()


@pytest.mark.parametrize("lacking", ["azure_endpoint", "deployment", "api_version"])
async def test_source_that_lacks_a_part_is_refused(lacking: str) -> None:
    with ChatWire("azure") as wire, pytest.raises(ProviderRejected, match=lacking):
        await SIDE.connect(wire, **{lacking: None})


async def test_price_is_that_of_the_model_that_answered() -> None:
    with ChatWire("azure", Said("ok", (1_000_000, 0, 0, 0), model="gpt-4o-2024-08-06")) as wire:
        source = await SIDE.connect(wire, model=None)
        reply = await source.generate(HELLO)
        assert reply.model == "gpt-4o-2024-08-06" and reply.priced and reply.cost > 0
        await source.close()
