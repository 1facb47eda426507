"""Pictures over the wire: made by an execution, kept as blobs, read with a key or by a link that ends."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from agentflow.access.apikeys import key_hash, new_key, public_id
from agentflow.ids import from_uuid, to_uuid
from agentflow.store import embedded
from tests.images_wire import Drawn, ImagesWire, png

Json = Any
DRAWN = png(512, 512, colour=99)
SHA256 = hashlib.sha256(DRAWN).hexdigest()
OTHER = "01900000-0000-7000-8000-00000000000b"


@pytest.fixture(scope="module")
def wire() -> Iterator[ImagesWire]:
    with ImagesWire("openai") as wire:
        wire.default = Drawn((DRAWN,), usage=(5, 100))
        yield wire
    assert wire.faults == []


def drawing(wire: ImagesWire) -> Json:
    """A workflow that draws ``user_input``."""
    config = {
        "provider": "openai",
        "model": "gpt-image-2",
        "base_url": f"{wire.address}/v1",
        "api_key_env": "OPENAI_API_KEY",
        "price": {"per_image": 0.04},
    }
    return {
        "name": "drawing",
        "start_node": "start",
        "nodes": [
            {"id": "start", "type": "input"},
            {"id": "draw", "type": "image", "metadata": {"source": "art"}},
        ],
        "edges": [{"from": "start", "to": "draw"}],
        "sources": [{"id": "art", "kind": "image", "config": config}],
    }


@pytest.fixture(scope="module")
async def drawn(live, wire: ImagesWire) -> Json:
    """The answer to a caller who waited for a picture."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OPENAI_API_KEY", "sk-canary-of-the-blobs")
        answer = await live.post(
            "/workflows/execute",
            json={"workflow": drawing(wire), "initial_state": {"user_input": "a fox"}},
        )
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
async def database(settings) -> AsyncIterator[asyncpg.Connection]:
    held = embedded.join(settings.data_dir)
    connection = await asyncpg.connect(held.dsn)
    yield connection
    await connection.close()
    held.close()


async def test_result_is_a_reference_and_the_answer_has_a_link(drawn: Json) -> None:
    result = drawn["final_state"]["image_result"]
    assert result == {
        "url": f"/api/v1/blobs/{SHA256}",
        "prompt": "a fox",
        "model": "gpt-image-2",
        "provider": "openai",
        "size": "512x512",
        "quality": "standard",
        "mime_type": "image/png",
        "blob": {
            "uri": f"blob:sha256:{SHA256}",
            "mime_type": "image/png",
            "size": len(DRAWN),
            "sha256": SHA256,
        },
        "cost": 0.04,
    }
    [link] = drawn["blobs"]
    assert link["sha256"] == SHA256 and re.match(r"20\d\d-.*Z$", link["expires_at"])
    assert (drawn["metrics"]["tokens_used"], drawn["metrics"]["cost"]) == (105, 0.04)


async def test_journal_holds_no_picture(live, drawn: Json, database: asyncpg.Connection) -> None:
    rows = await database.fetch(
        "SELECT payload FROM journal WHERE execution_id = $1",
        to_uuid(drawn["execution_id"], "exec"),
    )
    assert rows and max(len(row["payload"]) for row in rows) < 2000
    assert not any(b"iVBOR" in row["payload"] for row in rows)


async def test_link_gives_the_picture_to_whoever_has_it(live, anonymous, drawn: Json) -> None:
    shown = (await live.get(f"/executions/{drawn['execution_id']}")).json()
    for link in (drawn["blobs"][0], shown["blobs"][0]):
        answer = await anonymous.get(link["url"])
        assert (answer.status_code, answer.content) == (200, DRAWN)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(DRAWN))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("inline; filename=")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"].startswith("private")


async def test_key_opens_the_blob_of_its_tenant(live, anonymous, drawn: Json) -> None:
    url = drawn["final_state"]["image_result"]["url"]
    assert (await live.get(url)).content == DRAWN
    assert (await anonymous.get(url)).status_code == 401


async def test_link_is_made_for_as_long_as_is_asked(live, anonymous, drawn: Json) -> None:
    made = await live.get(f"/api/v1/blobs/{SHA256}/link", params={"expires_s": 60})
    assert made.status_code == 200
    assert (await anonymous.get(made.json()["url"])).content == DRAWN
    for seconds in (0, 8 * 86_400):
        asked = {"expires_s": seconds}
        assert (await live.get(f"/api/v1/blobs/{SHA256}/link", params=asked)).status_code == 422
    assert (await anonymous.get(f"/api/v1/blobs/{SHA256}/link")).status_code == 401


async def test_copy_lasts_no_longer_than_its_link(live, anonymous, drawn: Json) -> None:
    made = (await live.get(f"/api/v1/blobs/{SHA256}/link", params={"expires_s": 20})).json()["url"]
    told = (await anonymous.get(made)).headers["cache-control"]
    assert int(told.removeprefix("private, max-age=")) <= 20
    with_key = await live.get(f"/api/v1/blobs/{SHA256}", params={"expires": 2**40})
    assert with_key.headers["cache-control"] == "no-store"


async def test_result_is_told_while_no_links_can_be_made(
    live, drawn: Json, database: asyncpg.Connection
) -> None:
    renamed = "UPDATE api_keys SET name = $1 WHERE name = $2"
    await database.execute(renamed, "other", "bootstrap")
    try:
        told = await live.get(f"/executions/{drawn['execution_id']}")
        link = await live.get(f"/api/v1/blobs/{SHA256}/link")
    finally:
        await database.execute(renamed, "bootstrap", "other")
    assert told.status_code == 200 and "blobs" not in told.json()
    assert told.json()["final_state"]["image_result"] == drawn["final_state"]["image_result"]
    assert link.status_code == 500 and "no first API key" in link.json()["detail"]


async def test_link_opens_nothing_of_a_tenant_that_is_not_active(
    anonymous, drawn: Json, database: asyncpg.Connection
) -> None:
    set_status = "UPDATE tenants SET status = $1 WHERE name = 'default'"
    await database.execute(set_status, "suspended")
    try:
        answer = await anonymous.get(drawn["blobs"][0]["url"])
    finally:
        await database.execute(set_status, "active")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert (await anonymous.get(drawn["blobs"][0]["url"])).content == DRAWN


async def test_expired_link_is_gone(live, anonymous, drawn: Json) -> None:
    made = (await live.get(f"/api/v1/blobs/{SHA256}/link", params={"expires_s": 1})).json()["url"]
    answer = await anonymous.get(made)
    while answer.status_code == 200:
        answer = await anonymous.get(made)
    assert (answer.status_code, answer.json()["code"]) == (410, "GONE")
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"/api/v1/blobs/{SHA256}/link" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changed", "by"),
    [
        (r"expires=(\d+)", "expires=99999999999"),
        (r"signature=[0-9a-f]{8}", "signature=00000000"),
        (r"signature=[0-9a-f]+", "signature="),
        (r"tenant=\w+", f"tenant={from_uuid(UUID(OTHER), 'ten')}"),
        (r"&?tenant=\w+&?", ""),
        (r"[0-9a-f]{64}\?", "0" * 64 + "?"),
    ],
)
async def test_link_that_was_changed_opens_nothing(
    anonymous, drawn: Json, changed: str, by: str
) -> None:
    url = re.sub(changed, by, drawn["blobs"][0]["url"], count=1)
    answer = await anonymous.get(url)
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN"), answer.text


async def test_link_opens_no_other_path(anonymous, drawn: Json) -> None:
    query = drawn["blobs"][0]["url"].partition("?")[2]
    for path in ("/executions", f"/api/v1/blobs/{SHA256}/link", "/api/v1/executions"):
        assert (await anonymous.get(f"{path}?{query}")).status_code == 401
    assert (await anonymous.post(f"/api/v1/blobs/{SHA256}?{query}")).status_code == 401
    assert (await anonymous.get(f"/api/v1/blobs/{SHA256}?xsignature=1")).status_code == 401


async def test_other_tenant_has_no_such_blob(
    live, anonymous, drawn: Json, database: asyncpg.Connection
) -> None:
    key = new_key()
    await database.execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, 'other')", OTHER)
    await database.execute(
        "INSERT INTO api_keys (key_id, tenant_id, name, key_hash) VALUES ($1, $2, 'k', $3)",
        public_id(key),
        OTHER,
        key_hash(key),
    )
    headers = {"X-API-Key": key}
    for path in (f"/api/v1/blobs/{SHA256}", f"/api/v1/blobs/{SHA256}/link"):
        answer = await anonymous.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    signed = await anonymous.get(drawn["blobs"][0]["url"], headers=headers)
    assert signed.status_code == 200, "a link is for whoever has it"


@pytest.mark.parametrize("name", ["nothing", "A" * 64, "0" * 64, "..%2F..%2Fetc%2Fpasswd"])
async def test_blob_that_is_not_there_is_not_found(live, name: str) -> None:
    assert (await live.get(f"/api/v1/blobs/{name}")).status_code == 404
    assert (await live.get(f"/api/v1/blobs/{name}/link")).status_code == 404


@pytest.fixture
def path(drawn: Json, settings) -> Path:
    """Where the picture lies."""
    [found] = Path(settings.data_dir, "blobs").glob(f"*/*/{SHA256[:2]}/{SHA256}")
    return found


@pytest.mark.parametrize(
    ("content", "how"), [(DRAWN[:-1] + b"?", "damaged"), (DRAWN[:-1], "missing")]
)
async def test_blob_that_was_damaged_is_not_given_out(
    live, path: Path, content: bytes, how: str
) -> None:
    await asyncio.to_thread(path.write_bytes, content)
    answer = await live.get(f"/api/v1/blobs/{SHA256}")
    await asyncio.to_thread(path.write_bytes, DRAWN)
    assert answer.status_code == 500 and how in answer.json()["detail"]


async def test_execution_of_another_workflow_may_name_the_blob(live, drawn: Json, quick) -> None:
    uri = drawn["final_state"]["image_result"]["blob"]["uri"]
    asked = {"workflow": quick, "initial_state": {"user_input": uri}}
    answer = (await live.post("/workflows/execute", json=asked)).json()
    assert [each["uri"] for each in answer["blobs"]] == [uri]
