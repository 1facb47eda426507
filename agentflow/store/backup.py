"""Backup and restore: what a database holds, as one file.

The file is a ZIP: ``manifest.json``, and the rows of each table as PostgreSQL's binary COPY gives and
takes them. A backup is one snapshot, taken while the server works; a restore is one transaction. No
statement and no program is ever taken from the file: the schema is made by this version's migrations.

What says who works on what stays behind: coordinators, their leases, the owners of open executions. So
whoever starts on a restored database claims them all, as after a clean release.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import asyncpg
import msgspec

from agentflow.errors import ConfigError, Conflict, InvalidInput, NotFound, StoreError
from agentflow.store import blobs_backup, migrate
from agentflow.store.blobs_backup import Opener, Values
from agentflow.store.pool import Connection, connect, unavailable

FORMAT = 1
SUFFIX = ".afbackup"
TABLES = (
    "tenants", "api_keys", "specs", "executions", "journal", "commands", "waits", "steps", "blobs",
    "blob_uses", "erasures",
)  # fmt: skip
"""What is backed up, each after those that it refers to."""
LEFT_OUT = ("coordinators", "alembic_version", "snapshots", "cached_results", "blob_space")
"""Who works on what; what is only a shortcut; which blobs are whose (see store.blobs_backup)."""

Say = Callable[[str], None]
"""Told what is being done, a line at a time."""

_BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, struct.error,
    UnicodeDecodeError,
)  # fmt: skip
"""What reading an archive that is none, or not whole, may raise."""
_MANIFEST = "manifest.json"
_CHUNK = 1 << 18
_PATIENCE_S = 7 * 86_400.0
"""How long one table may take."""


class Part(msgspec.Struct, frozen=True):
    """One table in the file. ``sha256`` and ``size`` (bytes) are those of its rows, not compressed."""

    columns: tuple[str, ...]
    rows: int
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds. ``schema_revision`` is that of the database it was taken from; ``executions``
    counts them by status; ``created_at`` is the database's clock; ``values`` are the large ones."""

    format: int
    version: str
    schema_revision: str
    created_at: datetime
    executions: dict[str, int]
    tables: dict[str, Part]
    values: Values | None = None


async def backup(
    dsn: str, target: Path, *, version: str, force: bool, say: Say, blobs: Opener
) -> Manifest:
    """Write one snapshot of the database to ``target``, at once or not at all, for us alone to read.

    ``version`` is the product's; ``blobs`` opens the place of large values. Raises Conflict when the
    file exists already and ``force`` is not given, NotFound when there is nothing to back up,
    ConfigError when a newer AgentFlow has been here or the file cannot be written, StoreUnavailable.
    """
    _refuse_existing(target, force)
    connection = await connect(dsn)
    try:
        await blobs_backup.hold(connection)
        with unavailable():
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                with _writing(target) as draft:
                    manifest = await _write(connection, draft, version, say, blobs)
    finally:
        await connection.close()
    return manifest


def _refuse_existing(target: Path, force: bool) -> None:
    if target.exists() and not (force and target.is_file()):
        raise Conflict(f"{target} exists already: give another name, or --force to replace it")


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[IO[bytes]]:
    """A file beside the target that takes its name when all went well, and goes when it did not."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(draft, flags, 0o600), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error.strerror or error})") from None
    finally:
        draft.unlink(missing_ok=True)


async def _write(
    connection: Connection, file: IO[bytes], version: str, say: Say, blobs: Opener
) -> Manifest:
    revision, created_at, counts = await _overview(connection)
    parts: dict[str, Part] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for table in TABLES:
            columns = await _columns(connection, table)
            if columns:
                with archive.open(_member(table), "w", force_zip64=True) as out:
                    parts[table] = await _write_table(connection, table, columns, out)
                say(f"{table}: {parts[table].rows} rows")
        values = await blobs_backup.write(connection, archive, blobs, say)
        manifest = Manifest(
            format=FORMAT,
            version=version,
            schema_revision=revision,
            created_at=created_at,
            executions=counts,
            tables=parts,
            values=values,
        )
        archive.writestr(_MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


async def _overview(connection: Connection) -> tuple[str, datetime, dict[str, int]]:
    """The revision, the moment, the executions by status. This is where the snapshot is taken."""
    with unavailable():
        revision = await migrate.revision_of(connection)
        if revision is None:
            raise NotFound("The database is empty: there is nothing to back up")
        migrate.refuse_newer(revision)
        moment = await connection.fetchval("SELECT clock_timestamp()")
        rows = await connection.fetch(
            "SELECT status, count(*) FROM executions GROUP BY 1 ORDER BY 1", timeout=_PATIENCE_S
        )
    return revision, moment, {row["status"]: row["count"] for row in rows}


async def _write_table(
    connection: Connection, table: str, columns: Sequence[str], out: IO[bytes]
) -> Part:
    digest, size = hashlib.sha256(), 0

    async def take(chunk: bytes) -> None:
        nonlocal size
        digest.update(chunk)
        size += len(chunk)
        try:
            out.write(chunk)
        except OSError as error:
            raise ConfigError(f"The backup cannot be written ({error.strerror})") from None

    names = ", ".join(f'"{column}"' for column in columns)
    with unavailable():
        told = await connection.copy_from_query(
            f"SELECT {names} FROM {table}", output=take, format="binary", timeout=_PATIENCE_S
        )
    return Part(tuple(columns), int(told.split()[-1]), size, digest.hexdigest())


def read_manifest(source: Path) -> Manifest:
    """What a file says that it holds. Raises NotFound, InvalidInput when it is not one of ours or is
    damaged, ConfigError when a newer AgentFlow wrote it."""
    with _reading(source) as archive:
        try:
            content = json.loads(archive.read(_MANIFEST))
            if content["format"] > FORMAT:
                raise ConfigError(
                    f"{source} was written by AgentFlow {content.get('version')} in format "
                    f"{content['format']}; this one reads up to {FORMAT}: install the newer version"
                )
            manifest = msgspec.convert(content, Manifest)
        except (KeyError, TypeError, ValueError, RecursionError):
            raise _damaged(source, "its manifest is missing or cannot be read") from None
    migrate.refuse_newer(manifest.schema_revision)
    if manifest.schema_revision not in migrate.REVISIONS or not set(manifest.tables) <= set(TABLES):
        raise _damaged(source, "it names a revision or tables that are not ours")
    return manifest


def verify(source: Path) -> Manifest:
    """Read the whole file and compare every checksum. Raises as :func:`read_manifest`."""
    manifest = read_manifest(source)
    with _reading(source) as archive:
        for table, part in manifest.tables.items():
            digest = hashlib.sha256()
            with archive.open(_member(table)) as rows:
                while chunk := rows.read(_CHUNK):
                    digest.update(chunk)
            if digest.hexdigest() != part.sha256:
                raise _damaged(source, f"the checksum of {table} does not hold")
        fault = blobs_backup.fault(archive, manifest.values)
        if fault is not None:
            raise _damaged(source, fault)
    return manifest


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(source) as archive:
            yield archive
    except FileNotFoundError:
        raise NotFound(f"There is no file {source}") from None
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read ({error.strerror})") from None
    except _BROKEN:
        raise _damaged(source, "it is cut off, changed, or not a backup at all") from None


def _damaged(source: Path, how: str) -> InvalidInput:
    return InvalidInput(
        f"{source} is damaged: {how}. Nothing was restored; take another backup file"
    )


async def restore(dsn: str, source: Path, *, force: bool, say: Say, blobs: Opener) -> Manifest:
    """Put a backup in the place of what the database holds, in one transaction; then bring it to the
    schema of this version. The whole file is checked first. ``blobs`` opens the place of large values.

    Raises what :func:`verify` raises, Conflict when the database holds something and ``force`` is not
    given, or when coordinators work on it, StoreUnavailable.
    """
    manifest = verify(source)
    say(f"{source.name}: checksums hold")
    former: list[UUID | None] = [None]

    async def fill(connection: Connection) -> None:
        for table, part in manifest.tables.items():
            await _fill_table(connection, source, table, part)
            say(f"{table}: {part.rows} rows")
        await connection.execute(_RELEASE)
        await connection.execute(_NEXT_COMMAND)
        if manifest.values is not None:
            with _reading(source) as archive:
                await blobs_backup.restore(
                    connection, archive, manifest.values, former[0], blobs, say
                )

    async def check(connection: Connection) -> None:
        await _refuse_if_used(connection, force)
        former[0] = await blobs_backup.former_space(connection)

    try:
        await migrate.rebuild(dsn, manifest.schema_revision, check, fill)
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        raise StoreError(
            f"The database refuses what {source} holds, and nothing was restored: {error}"
        ) from error
    return manifest


_RELEASE = """
UPDATE executions SET owner = NULL, owner_epoch = NULL
 WHERE owner IS NOT NULL AND status IN ('pending', 'running', 'waiting')"""

_NEXT_COMMAND = """
SELECT setval(pg_get_serial_sequence('commands', 'id'), (SELECT coalesce(max(id), 0) + 1 FROM commands),
              false)"""

_HELD = """
SELECT (SELECT count(*) FROM executions) AS executions, (SELECT count(*) FROM specs) AS specs,
       (SELECT count(*) FROM api_keys WHERE name <> 'bootstrap') AS keys"""

_ALIVE = "SELECT id FROM coordinators WHERE lease_until > clock_timestamp() ORDER BY id LIMIT 1"


async def _refuse_if_used(connection: Connection, force: bool) -> None:
    """Nobody may work on the database, and it must be empty where nothing was forced."""
    await connection.execute("LOCK TABLE coordinators, executions IN ACCESS EXCLUSIVE MODE")
    alive = await connection.fetchval(_ALIVE)
    if alive is not None:
        raise Conflict(
            f"The coordinator {alive} works on this database: stop AgentFlow there first "
            "(one that was killed counts as gone after its lease, 10 s by default)"
        )
    held = await connection.fetchrow(_HELD)
    if held is not None and any(held) and not force:
        raise Conflict(
            f"The database is not empty ({held['executions']} executions): restore into a new data "
            "folder, or give --force to lose what it holds"
        )


async def _fill_table(connection: Connection, source: Path, table: str, part: Part) -> None:
    columns = await _columns(connection, table)
    if set(columns) != set(part.columns):
        raise _damaged(source, f"its columns of {table} are not those of its revision")
    await connection.execute(f"DELETE FROM {table}")
    with _reading(source) as archive, archive.open(_member(table)) as rows:

        async def chunks() -> AsyncIterator[bytes]:
            while chunk := rows.read(_CHUNK):
                yield chunk

        with unavailable():
            told = await connection.copy_to_table(
                table, columns=part.columns, source=chunks(), format="binary", timeout=_PATIENCE_S
            )
    if told != f"COPY {part.rows}":
        raise _damaged(source, f"{table} has not the {part.rows} rows that the manifest tells of")


def _member(table: str) -> str:
    return f"tables/{table}.copy"


async def _columns(connection: Connection, table: str) -> list[str]:
    """The columns in order; none where this revision has no such table."""
    rows: list[Any] = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 "
        "AND NOT attisdropped ORDER BY attnum",
        table,
    )
    return [row["attname"] for row in rows]
