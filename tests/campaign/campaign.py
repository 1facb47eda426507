"""One campaign: a world, its users, faults for so many minutes, healing, and the verdict."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.campaign.builds import REAL, Build
from tests.campaign.checker import judge
from tests.campaign.faults import Fault, Faults
from tests.campaign.history import gather
from tests.campaign.kinds import KINDS
from tests.campaign.load import Client
from tests.campaign.report import Outcome
from tests.campaign.world import World

HEAL_S = 120.0
"""How long executions may take to end once everything is whole again."""
USERS = 16


async def campaign(
    minutes: float,
    seed: int,
    *,
    build: Build = REAL,
    kinds: tuple[str, ...] = (),
    users: int = USERS,
    nodes: int = 2,
    gap_s: float = 2.5,
    least: int = 0,
    keep: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Faults of these kinds (all of them) at random, once the system is at work; see ``Faults.run`` for
    ``least``. ``keep``: where ledger, notes and logs are left."""
    world = World(build, seed, nodes)
    try:
        await world.open()
        say(f"the system is up: {world.url}, {world.folder}")
        client = Client(lambda: world.url, world.provider, world.folder / "notes.db", seed, users)
        record = world.folder / "faults.jsonl"
        faults = Faults(world, client, record, random.Random(seed), KINDS, say)
        telling = asyncio.create_task(_tell(client, faults.done, say))
        await asyncio.wait_for(client.busy.wait(), HEAL_S)
        await faults.run(time.monotonic() + minutes * 60, kinds, gap_s, least)
        await world.whole()
        say("no more faults; waiting until everything has ended")
        await client.settle(HEAL_S)
        telling.cancel()
        if keep is not None:
            await asyncio.to_thread(_keep, world, keep)
        return await judged(world, faults.done, minutes, seed, keep=keep)
    finally:
        await world.close()
        world.remove()


async def judged(
    world: World,
    faults: list[Fault],
    minutes: float,
    seed: int,
    strict_adoption: bool = False,
    keep: Path | None = None,
) -> Outcome:
    """What has happened in a world, and the verdict on it."""
    blobs, notes = world.folder / "data/blobs", world.folder / "notes.db"
    history = await gather(world.database, world.target, world.ledger, notes, blobs, faults)
    if keep is not None:
        (keep / "history.json").write_bytes(msgspec.json.encode(history))
    return Outcome(
        minutes=minutes,
        seed=seed,
        history=history,
        verdict=judge(history, strict_adoption),
        restarts=world.restarts,
    )


async def _tell(client: Client, faults: list[Fault], say: Callable[[str], None]) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(30)
        hit = sum(fault.hit for fault in faults)
        say(
            f"{(time.monotonic() - began) / 60:5.1f} min: {client.acknowledged} acknowledged, "
            f"{client.unsettled} open, {len(faults)} faults, {hit} hit"
        )


def _keep(world: World, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ledger.db", "ledger.db-wal", "notes.db", "notes.db-wal", "faults.jsonl"):
        if (world.folder / name).exists():
            shutil.copy(world.folder / name, folder)
    for path in [world.folder / "system.log", world.folder / "second.log"]:
        if path.exists():
            shutil.copy(path, folder)
    (folder / "database.log").write_text(world.database.log())
    (folder / "target.log").write_text(world.target.log())
    logs = Path(str(world._told.get("folder", "/nowhere"))) / "session_latest/logs"
    if logs.exists():
        shutil.copytree(logs, folder / "ray", dirs_exist_ok=True, ignore_dangling_symlinks=True)
