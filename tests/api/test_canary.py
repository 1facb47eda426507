"""A secret is planted in every kind of source, and looked for in everything that AgentFlow writes or says:
plans, journals, projections, blobs, logs, errors, streams, answers, metrics and a backup."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
import logging
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import httpx2
import pytest

from agentflow import flow as flows
from agentflow.api.app import build_app
from agentflow.settings import Settings
from agentflow.store import embedded
from agentflow.store.backup import backup
from agentflow.store.blobs import open_store
from agentflow.telemetry import logs
from tests.api.conftest import KEY
from tests.fake_provider import FakeProvider, Raw, Request, Status
from tests.images_wire import ImagesWire
from tests.images_wire import Refused as ImageRefused
from tests.unit.sources.sides import SIDES, Side

Json = Any
MODELS = [side for side in SIDES if side.name not in ("vllm", "azure v1")]
DSN, OTHER_DSN = "CANARY_DSN", "CANARY_MYSQL_DSN"
HELD = {
    "OPENAI_API_KEY": "sk-canary-openai-83hf7sk2",
    "AZURE_OPENAI_API_KEY": "sk-canary-azure-92hd6ak1",
    "ANTHROPIC_API_KEY": "sk-canary-anthropic-12js8dk4",
    "GEMINI_API_KEY": "sk-canary-gemini-73hs5jd9",
    "CANARY_USER": "canary-user-48",
    "CANARY_PASSWORD": 'canary-"pass\\word-59',
    "CANARY_TOKEN": "canary-token-71",
    "CANARY_GIVEN_TOKEN": "canary-given-token-26",
    OTHER_DSN: "mysql://canary:canary-mysql-word@169.254.1.1:3306/shop",
}
ROLE, ROLE_PASSWORD = "canary_reader", "canary-database-word"


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in HELD.items():
            patch.setenv(name, value)
        yield patch


@pytest.fixture(scope="module")
async def database(
    settings: Settings, environment: pytest.MonkeyPatch
) -> AsyncIterator[asyncpg.Connection]:
    """AgentFlow's own database, which also is what the canary's role reads."""
    held = embedded.join(settings.data_dir)
    connection = await asyncpg.connect(held.dsn)
    await connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE_PASSWORD}'")
    where = urlsplit(held.dsn)
    address = f"{where.hostname}:{where.port}{where.path}"
    environment.setenv(DSN, f"postgresql://{ROLE}:{ROLE_PASSWORD}@{address}")
    yield connection
    await connection.execute(f"DROP ROLE {ROLE}")
    await connection.close()
    held.close()


@pytest.fixture(scope="module")
def said_by_us() -> Iterator[io.StringIO]:
    """All log lines of this process, ours and the libraries', of every level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    logs.configure("DEBUG", stream)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    logs.configure("INFO")


@pytest.fixture(scope="module")
async def api(
    settings: Settings, database: asyncpg.Connection, said_by_us: io.StringIO
) -> AsyncIterator[httpx2.AsyncClient]:
    """An API whose workers may read the canary's variables."""
    own = dataclasses.replace(settings, source_env=(*HELD, DSN), log_level="DEBUG", lease_s=60.0)
    app = build_app(lambda: flows.open_local(own))
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app),
            base_url="http://api",
            headers={"X-API-Key": KEY, "Prefer": "wait=40"},
            timeout=60,
        ) as client,
    ):
        yield client


def workflow(kind: str, source: Json, **options: Json) -> Json:
    """A workflow of one step with this source."""
    node_type = "http" if kind == "api" else kind
    metadata = {"source": "planted", **options}
    return {
        "nodes": [{"id": "call", "type": node_type, "metadata": metadata}],
        "sources": [{"id": "planted", "kind": kind, "config": source}],
        "start_node": "call",
        "settings": {"retry": {"max_attempts": 1}},
    }


def model_workflow(side: Side, wire: Any) -> Json:
    config = {**side.config(wire), "provider": side.provider, "api_key_env": side.variable}
    return workflow("llm", config, prompt="hello")


def repeating(request: Request) -> Raw:
    """A service that repeats every credential, in a reply too large for a row."""
    if request.path == "/token":
        token = {"access_token": HELD["CANARY_GIVEN_TOKEN"], "token_type": "Bearer"}
        return Raw(json.dumps(token).encode(), 200, "application/json")
    told = {"headers": request.headers, "filler": "x" * 70_000}
    return Raw(
        json.dumps(told).encode(),
        200,
        "application/json",
        {"X-Told": request.headers.get("authorization", "")},
    )


def services(service: FakeProvider) -> list[Json]:
    """A workflow for each way to prove who calls."""
    base = f"http://127.0.0.1:{service.port}"
    basic = {"auth": "basic", "username_env": "CANARY_USER", "password_env": "CANARY_PASSWORD"}
    oauth = {
        "auth": "oauth2",
        "token_url": f"{base}/token",
        "client_id_env": "CANARY_USER",
        "client_secret_env": "CANARY_PASSWORD",
    }
    ways: list[Json] = [
        {"auth": "bearer", "auth_env": "CANARY_TOKEN"},
        {"auth": "api_key", "auth_env": "CANARY_TOKEN"},
        {"auth": "jwt", "auth_env": "CANARY_TOKEN"},
        basic,
        oauth,
    ]
    return [workflow("api", {"base_url": base, **way}, path="/things") for way in ways]


def databases() -> list[Json]:
    source = {"driver": "postgres", "dsn_env": DSN}
    other = {"driver": "mysql", "dsn_env": OTHER_DSN}
    return [
        workflow("db", source, query="SELECT current_user AS me, 1 AS n"),
        workflow("db", source, query="SELECT rolpassword FROM pg_authid"),
        workflow("db", source, query="SELECT no_such_column"),
        workflow("db", other, query="SELECT 1"),
    ]


@pytest.fixture(scope="module")
async def told(api: httpx2.AsyncClient) -> list[Json]:
    """The answers of every execution: each source once as it should be, once refused."""
    with ExitStack() as opened:
        wires = [(side, opened.enter_context(side.wire())) for side in MODELS]
        images = opened.enter_context(ImagesWire("openai"))
        service = opened.enter_context(FakeProvider(default=repeating))
        config = {"provider": "openai", "model": "gpt-image-2", "api_key_env": "OPENAI_API_KEY"}
        image = workflow("image", {**config, "base_url": f"{images.address}/v1"}, prompt="a fox")
        calls = [*(model_workflow(*each) for each in wires), image, *services(service)]
        answers = await execute(api, [*calls, *databases()])
        assert [each["status"] for each in answers[: len(calls)]] == ["completed"] * len(calls)
        for side, wire in wires:
            wire.default = side.refused(401, "bad key", echo_key=True)
        images.default = ImageRefused(401, "bad key", echo_key=True)
        service.default = Status(403, echo_key=True)
        refused = await execute(api, calls)
        assert {each["status"] for each in refused} == {"failed"}
        sent = "".join(str(each.headers) for _, wire in wires for each in wire.requests)
        sent += "".join(str(each.headers) + each.raw.decode() for each in service.requests)
        assert all(HELD[side.variable] in sent for side in MODELS) and HELD["CANARY_TOKEN"] in sent
    return [*answers, *refused]


async def execute(api: httpx2.AsyncClient, documents: list[Json]) -> list[Json]:
    turns = asyncio.Semaphore(4)

    async def one(document: Json) -> Json:
        async with turns:
            answer = await asked(api, document)
            waited = answer.json()
            assert "execution_id" in waited, answer.text
            found = await api.get(f"/api/v1/executions/{waited['execution_id']}")
        return {**found.json(), "waited": waited}

    return await asyncio.gather(*map(one, documents))


async def asked(api: httpx2.AsyncClient, document: Json) -> httpx2.Response:
    """The answer to an execution; who is asked to come back later does."""
    while True:
        answer = await api.post("/api/v1/workflows/execute", json={"workflow": document})
        if answer.status_code != 503:
            return answer
        await asyncio.sleep(float(answer.headers["retry-after"]))


def spellings() -> set[str]:
    """Every secret as it is, and as it would be in JSON, in an address, in base64 and in bytes."""
    whole = [*HELD.values(), ROLE_PASSWORD, "canary-mysql-word"]
    found = set()
    for secret in whole:
        plain = secret.encode()
        found |= {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), plain.hex()}
        found |= {base64.b64encode(plain).decode().rstrip("=")}
    user = f"{HELD['CANARY_USER']}:{HELD['CANARY_PASSWORD']}"
    return found | {base64.b64encode(user.encode()).decode()}


def check_clean(sink: str, name: str) -> None:
    found = [spelling for spelling in spellings() if spelling in sink]
    assert found == [], name


async def test_answers_events_streams_and_steps_hold_no_secret(
    api: httpx2.AsyncClient, told: list[Json]
) -> None:
    check_clean(json.dumps(told), "executions")
    errors = [each["error"] for each in told if each["status"] == "failed"]
    assert len(errors) > len(MODELS) and all(each["message"] for each in errors)
    for each in told:
        root = f"/api/v1/executions/{each['waited']['execution_id']}"
        for path in ("", "/events", "/steps", "/steps/call", "/state"):
            check_clean((await api.get(root + path)).text, path)
        stream = await api.get(f"{root}/events", headers={"Accept": "text/event-stream"})
        assert stream.headers["content-type"].startswith("text/event-stream")
        check_clean(stream.text, "stream")
    check_clean((await api.get("/metrics")).text, "metrics")
    check_clean((await api.get("/api/v1/health")).text, "health")


async def test_database_blobs_and_backup_hold_no_secret(
    told: list[Json], database: asyncpg.Connection, settings: Settings, tmp_path: Path
) -> None:
    tables = await database.fetch(
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    assert len(tables) > 8
    for table in tables:
        rows = await database.fetch(f"SELECT t::text AS row FROM {table['name']} t")
        check_clean("\n".join(row["row"] for row in rows), table["name"])
    events = await database.fetch("SELECT payload FROM journal")
    check_clean("\n".join(row["payload"].decode("latin-1") for row in events), "journal")
    kept = [path.read_bytes() for path in settings.data_dir.glob("blobs/**/*") if path.is_file()]
    assert any(len(content) > 65_536 for content in kept)
    check_clean("\n".join(content.decode("latin-1") for content in kept), "blobs")
    held = embedded.join(settings.data_dir)
    target = tmp_path / "all.afbackup"
    await backup(
        held.dsn,
        target,
        version="0",
        force=False,
        say=lambda text: None,
        blobs=partial(open_store, settings.blobs, settings.data_dir),
    )
    held.close()
    with zipfile.ZipFile(target) as packed:
        for name in packed.namelist():
            check_clean(packed.read(name).decode("latin-1"), name)


def test_logs_hold_no_secret(told: list[Json], said_by_us: io.StringIO) -> None:
    written = said_by_us.getvalue()
    assert told and "127.0.0.1" in written
    check_clean(written, "logs")
