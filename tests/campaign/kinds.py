"""Every kind of fault: its name, how often it comes, what is done."""

from __future__ import annotations

from tests.campaign import database_faults as databases
from tests.campaign.faults import Fault, Faults, Kind
from tests.campaign.proxy import DOWN, UP


def _own(do, *more: str):  # type: ignore[no-untyped-def]
    """Done to the database of the system."""
    return lambda faults, fault: do(faults, fault, faults.world.database, *more)


def _other(do, *more: str):  # type: ignore[no-untyped-def]
    """Done to the database that workflows write to."""
    return lambda faults, fault: do(faults, fault, faults.world.target, *more)


async def _stopped_worker(faults: Faults, fault: Fault) -> None:
    await faults.worker(fault, stop=True)


async def _stopped_coordinator(faults: Faults, fault: Fault) -> None:
    await faults.coordinator(fault, stop=True)


async def _stopped_replica(faults: Faults, fault: Fault) -> None:
    await faults.replica(fault, stop=True)


KINDS = (
    Kind("worker killed", 6, Faults.worker),
    Kind("worker stopped", 4, _stopped_worker, lasting=0.3),
    Kind("coordinator killed", 6, Faults.coordinator),
    Kind("coordinator stopped", 6, _stopped_coordinator, lasting=0.3),
    Kind("API replica killed", 2, Faults.replica),
    Kind("API replica stopped", 1, _stopped_replica),
    Kind("node killed (its raylet)", 1.5, Faults.node, lasting=1.0),
    Kind("all of Ray killed, and restarted", 0.3, Faults.system, alone=True),
    Kind("database process killed", 3, _own(databases.backend)),
    Kind("database killed", 2, _own(databases.postmaster)),
    Kind("network slow", 2, _own(databases.delay), lasting=0.3),
    Kind("connections cut after n bytes", 4, _own(databases.cut)),
    Kind("network black hole", 2, _own(databases.hole, UP, DOWN), lasting=0.3),
    Kind("black hole from the database", 2, _own(databases.hole, DOWN)),
    Kind("connections reset", 2, _own(databases.reset)),
    Kind("other database: process killed", 2, _other(databases.backend)),
    Kind("other database killed", 2, _other(databases.postmaster)),
    Kind("other database: connections cut after n bytes", 3, _other(databases.cut), lasting=0.3),
    Kind("other database: black hole", 1, _other(databases.hole, DOWN), lasting=1.0),
)
