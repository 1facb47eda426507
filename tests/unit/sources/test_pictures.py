"""Pictures of a chat, fetched from a host on a real socket."""

from __future__ import annotations

import pytest

from agentflow.errors import ProviderRejected
from agentflow.sources.base import Message
from agentflow.sources.pictures import embedded
from tests.fake_provider import FakeProvider, Raw
from tests.unit.sources.conftest import LOOPBACK

LARGE = b"\x89PNG\r\n\x1a\n" + bytes(18 * 2**20)


async def test_pictures_that_are_too_large_together_are_refused() -> None:
    with FakeProvider(default=Raw(LARGE, content_type="image/png")) as host:
        url = f"http://127.0.0.1:{host.port}/cat.png"
        part = {"type": "image_url", "image_url": {"url": url}}
        with pytest.raises(ProviderRejected, match="exceed"):
            await embedded([Message("user", [part] * 50)], LOOPBACK)
        assert len(host.requests) == 3
