"""A provider on loopback, and what is needed to call it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from agentflow.addresses import Policy
from agentflow.sources.credentials import Credentials
from tests.fake_provider import FakeProvider

CANARY = "sk-canary-0123456789abcdef"
LOOPBACK = Policy(allow=(ip_network("127.0.0.0/8"),))


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def credentials() -> Credentials:
    return Credentials({"OPENAI_API_KEY": CANARY}, lambda name: name == "OPENAI_API_KEY")
