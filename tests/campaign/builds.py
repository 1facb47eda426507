"""Copies of the product to try: as it is, and deliberately broken ones.

A broken build is a copy of the product with a few texts replaced: the product itself has no switches for
this.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]


class Change(msgspec.Struct, frozen=True):
    """A replaced text; it stands in the file exactly once."""

    file: str
    old: str
    new: str


class Build(msgspec.Struct, frozen=True):
    """What is tried. ``drill`` names what makes a broken one show (see drills.py), ``breaks`` the rules
    by which it may be found out. ``alone``: one process is enough for it."""

    name: str = "as it is"
    changes: tuple[Change, ...] = ()
    drill: str = ""
    breaks: tuple[str, ...] = ()
    alone: bool = False


def place(build: Build, folder: Path) -> Path:
    """Copy the product into a folder, with the changes made; the copy's root.

    The campaign tries one state of the source from its beginning to its end, whoever edits it meanwhile.
    Raises LookupError where a text is not there exactly once.
    """
    shutil.copytree(
        ROOT / "agentflow", folder / "agentflow", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "serve_app.py", folder)
    for change in build.changes:
        path = folder / change.file
        source = path.read_text()
        if source.count(change.old) != 1:
            raise LookupError(f"{change.file}: {source.count(change.old)} times {change.old!r}")
        path.write_text(source.replace(change.old, change.new))
    return folder


REAL = Build()
STATEMENTS = "agentflow/store/statements.py"
BROKEN = (
    Build(
        "fencing off",
        (
            Change(
                STATEMENTS,
                "     WHERE e.execution_id = ANY($3::uuid[]) AND e.owner = $1 AND e.owner_epoch = $2\n"
                '     ORDER BY e.execution_id FOR NO KEY UPDATE OF e)"""',
                "     WHERE e.execution_id = ANY($3::uuid[])\n"
                '     ORDER BY e.execution_id FOR NO KEY UPDATE OF e)"""',
            ),
            Change(
                STATEMENTS,
                " WHERE e.execution_id = ANY($3::uuid[]) AND e.owner = $1 AND e.owner_epoch = $2\n"
                "   AND c.epoch = $2 AND c.lease_until > clock_timestamp()",
                " WHERE e.execution_id = ANY($3::uuid[]) AND $1::text IS NOT NULL\n"
                "   AND $2::bigint IS NOT NULL",
            ),
        ),
        "fencing",
        ("only the owner writes",),
    ),
    Build(
        "key not stable (the attempt is in it)",
        (
            Change(
                "agentflow/nodes/base.py",
                "self.tenant, self.execution_id, self.step, call_index, self.generation",
                "self.tenant, self.execution_id, self.step, self.attempt, self.generation",
            ),
        ),
        "key",
        ("one key per step",),
        alone=True,
    ),
    Build(
        "dispatch before commit",
        (
            Change(
                "agentflow/engine/scheduler.py",
                "early, effects = owned.durability.split(effects, self._may_lead())",
                "early, effects = effects, []",
            ),
        ),
        "commit",
        ("commit before call",),
        alone=True,
    ),
    Build(
        "intent of a once step after its effect",
        (
            Change(
                "agentflow/engine/durability.py",
                '.effects == "once":\n                later.append(effect)',
                '.effects == "once":\n                early.append(effect)',
            ),
        ),
        "commit",
        ("commit before call",),
        alone=True,
    ),
    Build(
        "adoption off",
        (
            Change(
                "agentflow/distributed/dispatch.py",
                "return frozenset(attempt_id for adopted in found for attempt_id in adopted)",
                "return frozenset()",
            ),
        ),
        "adoption",
        ("what a living worker does is adopted",),
    ),
    Build(
        "blob after its completion",
        (
            Change(
                "agentflow/store/sealing.py",
                "                await self._put({blob: blobs[blob] for blob in new}, touching)\n",
                "                put = self._put({blob: blobs[blob] for blob in new}, touching)\n"
                "                later = asyncio.get_running_loop().call_later\n"
                "                later(0.5, asyncio.ensure_future, put)\n",
            ),
        ),
        "blob",
        ("a large value is there before its name",),
    ),
    Build(
        "acknowledged before commit",
        (
            Change(
                "agentflow/engine/scheduler.py",
                "await asyncio.shield(durable)",
                "await asyncio.sleep(0)",
            ),
        ),
        "acknowledgement",
        ("what was acknowledged is kept, and ends",),
    ),
    Build(
        "idempotency key not sent",
        (
            Change(
                "agentflow/sources/api.py",
                'headers.setdefault("idempotency-key", request.idempotency_key)',
                "pass",
            ),
        ),
        "unheard",
        ("a service does each thing once",),
        alone=True,
    ),
    Build(
        "a once step is tried again",
        (
            Change(
                "agentflow/execution/retry.py",
                'if node.effects == "once" or not error.retryable:',
                "if not error.retryable:",
            ),
        ),
        "unheard",
        ("once is at most once",),
        alone=True,
    ),
    Build(
        "no dedupe row for a write",
        (
            Change(
                "agentflow/sources/postgres.py",
                "if table is not None and not await self._claimed(connection, table, request.key):",
                "if False:",
            ),
        ),
        "write",
        ("a write is made once",),
        alone=True,
    ),
    Build(
        "a write is told before its commit",
        (
            Change(
                "agentflow/sources/postgres.py",
                "    await transaction.commit()\n",
                "    try:\n        await transaction.commit()\n    except _FAULTS:\n        pass\n",
            ),
        ),
        "write",
        ("no write is lost",),
        alone=True,
    ),
    Build(
        "an answer is lost on take-over",
        (
            Change(
                STATEMENTS,
                "SELECT id, execution_id, tenant_id, kind, payload, wait, asked_by, at FROM commands\n"
                " WHERE execution_id = ANY($1::uuid[]) AND NOT starts_with(wait, '{KEPT}') ORDER BY id",
                "DELETE FROM commands\n"
                " WHERE execution_id = ANY($1::uuid[]) AND NOT starts_with(wait, '{KEPT}')\n"
                "RETURNING id, execution_id, tenant_id, kind, payload, wait, asked_by, at",
            ),
            Change(
                STATEMENTS,
                "WITH gone AS (DELETE FROM commands WHERE id = ANY($1::bigint[]) RETURNING 1)\n"
                "SELECT agentflow_fence((SELECT count(*) FROM gone), $2)",
                "SELECT agentflow_fence($2, $2) WHERE $1::bigint[] IS NOT NULL",
            ),
        ),
        "answer",
        ("what was acknowledged is kept, and ends",),
    ),
    Build(
        "a wait takes a second answer",
        (
            Change(
                "agentflow/store/waits.py",
                " WHERE execution_id = $1 AND wait_id = $2 AND answered_at IS NULL AND closed_at IS NULL\n"
                "   AND coalesce(due_at > clock_timestamp(), true)\nRETURNING wait_id",
                " WHERE execution_id = $1 AND wait_id = $2 AND closed_at IS NULL\n"
                "   AND coalesce(due_at > clock_timestamp(), true)\nRETURNING wait_id",
            ),
        ),
        "answers",
        ("an answer that was acknowledged is taken, once",),
        alone=True,
    ),
    Build(
        "a timer ends early",
        (
            Change(
                "agentflow/nodes/wait.py",
                'after_s=options["seconds"]',
                'after_s=options["seconds"] / 100',
            ),
        ),
        "timer",
        ("a timer is not early",),
        alone=True,
    ),
)
