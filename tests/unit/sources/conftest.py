"""Providers and databases on loopback, and what is needed to call them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from agentflow.addresses import Policy
from agentflow.sources.base import ModelSource
from agentflow.sources.credentials import Credentials
from agentflow.sources.sql import SqlService
from agentflow.sources.sqlserver import open_database
from tests import mariadb
from tests.conftest import new_folder
from tests.fake_provider import FakeProvider
from tests.unit.sources.databases import MysqlSide, Open, PostgresSide, Side
from tests.wire import Wire

CANARY = "sk-canary-0123456789abcdef"
LOOPBACK = Policy(allow=(ip_network("127.0.0.0/8"),))


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def credentials() -> Credentials:
    return Credentials({"OPENAI_API_KEY": CANARY}, lambda name: name == "OPENAI_API_KEY")


@pytest.fixture(scope="module")
def provider_server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The server of the module's ``SIDE``, one for all its tests."""
    with request.module.SIDE.wire() as server:
        yield server


@pytest.fixture
def wire(provider_server: Wire) -> Wire:
    """The server as if it were new."""
    provider_server.forget()
    provider_server.faults.clear()
    return provider_server


@pytest.fixture
async def source(request: pytest.FixtureRequest, wire: Wire) -> AsyncIterator[ModelSource]:
    """A source of the module's ``SIDE``, connected to its server."""
    source = await request.module.SIDE.connect(wire)
    yield source
    await source.close()


@pytest.fixture(scope="session")
def maria() -> Iterator[mariadb.MariaDb]:
    """A MariaDB server of these tests' own; Debian's package mariadb-server-core has it."""
    if not mariadb.installed():
        pytest.skip("MariaDB is not installed (apt-get install mariadb-server-core)")
    folder = new_folder()
    server = mariadb.MariaDb(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def postgres(empty_dsn: str) -> AsyncIterator[PostgresSide]:
    side = await PostgresSide.open(empty_dsn)
    yield side
    await side.close()


@pytest.fixture
async def mysql(maria: mariadb.MariaDb) -> AsyncIterator[MysqlSide]:
    side = await MysqlSide.open(maria, f"test_{uuid.uuid4().hex}")
    yield side
    await side.close()


@pytest.fixture(params=["postgres", "mysql"])
def database(request: pytest.FixtureRequest) -> Side:
    """Each database in turn, with a table ``t`` that is new for every test."""
    return request.getfixturevalue(request.param)


@pytest.fixture
async def open_source(database: Side) -> AsyncIterator[Open]:
    """Opens sources, on the test's own database where no other is named."""
    opened: list[Any] = []

    async def make(dsn: str | None = None, **config: Any) -> SqlService:
        given = {"DB": database.dsn if dsn is None else dsn}
        credentials = Credentials(given, lambda name: name == "DB")
        config = {"dsn_env": "DB", **config}
        source = await open_database("main", config, policy=LOOPBACK, credentials=credentials)
        opened.append(source)
        return source

    yield make
    for source in opened:
        await source.close()
