"""``agentflow backup``: everything that the database holds, as one file, while the server works."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from agentflow.cli import options
from agentflow.cli.screen import Format, Screen
from agentflow.errors import NotFound
from agentflow.settings import Settings, load

Json = Any

Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


def backup(
    context: typer.Context,
    target: Annotated[
        Path, typer.Argument(metavar="FILE|DIR", help="The file, or a folder to put one into.")
    ],
    force: Force = False,
    quiet: options.Quiet = False,
    output: options.Output = Format.table,
) -> None:
    """Write all executions, workflows and keys to one file; the server may work meanwhile."""
    import asyncio

    from agentflow import __version__
    from agentflow.store import backup as store
    from agentflow.store.blobs import open_store

    screen, settings = options.screen(context, output), load()
    if target.is_dir():
        target /= f"agentflow-{datetime.now(UTC):%Y%m%dT%H%M%SZ}{store.SUFFIX}"
    target = target.absolute()
    if settings.database_url is None and not (settings.data_dir / "postgres" / "data").is_dir():
        raise NotFound(f"There is no database in {settings.data_dir}: there is nothing to back up")
    with database(settings) as dsn:
        manifest = asyncio.run(
            store.backup(
                dsn,
                target,
                version=__version__,
                force=force,
                say=teller(screen, quiet),
                blobs=partial(open_store, settings.blobs, settings.data_dir),
            )
        )
    if not quiet:
        screen.say(
            "Not in the file: the bootstrap key itself (the database keeps its hash only) and the "
            "embedded database's password. A restored server takes API_KEY, else the file api-key of "
            "its own data folder: keep a copy of yours if clients are to go on with it."
        )
    show(screen, manifest, target)


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The address of the database; the embedded one is held as long as it is used. Its schema is left
    as it is. Raises ConfigError."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from agentflow.store.embedded import join

    held = join(settings.data_dir)
    try:
        yield held.dsn
    finally:
        held.close()


def teller(screen: Screen, quiet: bool) -> Any:
    """Where the progress goes."""
    return (lambda line: None) if quiet else screen.say


def show(screen: Screen, manifest: Any, file: Path) -> None:
    """Print what a file holds."""
    import msgspec

    described: Json = {"file": str(file), "bytes": file.stat().st_size}
    described |= msgspec.to_builtins(manifest)
    if screen.structured:
        screen.document(described)
        return
    counts = [f"{count} {status}" for status, count in manifest.executions.items()]
    screen.text(f"{file}: {', '.join(counts) or 'no'} executions, {file.stat().st_size} bytes")
