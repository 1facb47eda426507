"""What the API says while the database is away: reached through a proxy that can be cut."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from agentflow import flow as flows
from agentflow.api.app import build_app
from agentflow.settings import Settings
from agentflow.store.embedded import join
from tests.api.conftest import KEY


class Wire:
    """A TCP proxy to the database that can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def cut(self) -> None:
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self._cut = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture(scope="module")
def home():
    path = Path(tempfile.mkdtemp(prefix="af-away-", dir="/tmp"))
    path.chmod(0o711)
    embedded = join(path)
    yield path, embedded.dsn
    embedded.close()
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
async def wired(home):
    path, dsn = home
    address = urlsplit(dsn)
    wire = Wire(address.hostname, address.port)
    server = await wire.open()
    settings = Settings(
        data_dir=path,
        database_url=dsn.replace(f":{address.port}", f":{wire.port}"),
        api_key=KEY,
        lease_s=2,
        heartbeat_s=0.5,
    )
    app = build_app(lambda: flows.open_local(settings))
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://api", headers={"X-API-Key": KEY}, timeout=30
        ) as client:
            yield wire, client
        wire.mend()
    server.close()


async def test_nothing_is_accepted_while_the_database_is_away(wired, quick):
    wire, client = wired
    body = {"workflow": quick}
    done = await client.post("/workflows/execute", json=body)
    assert done.status_code == 200, done.text
    execution_id = done.json()["execution_id"]

    wire.cut()
    async with asyncio.timeout(60):
        while (await client.get("/health")).json()["dependencies"]["ray"] != "unavailable":
            await asyncio.to_thread(lambda: None)
        ready = await client.get("/ready")
        assert ready.status_code == 503
        assert ready.json()["status"] == "not_ready"
        assert ready.json()["checks"]["database"] == "unavailable"
        for method, path in (
            ("POST", "/workflows/execute"),
            ("POST", "/workflows/execute/async"),
            ("POST", "/workflows/execute/stream"),
            ("GET", "/executions"),
            ("GET", f"/executions/{execution_id}"),
            ("GET", f"/executions/{execution_id}/events"),
        ):
            answer = await client.request(method, path, json=body if method == "POST" else None)
            assert answer.status_code == 503, (path, answer.text)
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["code"] == "UNAVAILABLE"
            assert answer.json()["retryable"] is True
        cancel = await client.post(f"/executions/{execution_id}/cancel")
        assert cancel.status_code == 503
        health = await client.get("/health")
        assert health.status_code == 200
        assert health.json()["status"] == "degraded"
        assert health.json()["dependencies"]["database"] == "unavailable"

        wire.mend()
        while (await client.get("/ready")).status_code != 200:
            await asyncio.to_thread(lambda: None)
        again = await client.post("/workflows/execute", json=body)
    assert again.status_code == 200, again.text
