"""``agentflow restore``: put a backup in the place of what the database holds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from agentflow.cli import backup, options
from agentflow.cli.screen import Format
from agentflow.settings import load


def restore(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `agentflow backup`.")],
    force: backup.Force = False,
    quiet: options.Quiet = False,
    output: options.Output = Format.table,
) -> None:
    """Bring back what a backup holds; open executions go on when a server starts."""
    import asyncio

    from agentflow.store import backup as store
    from agentflow.store.blobs import open_store

    screen, settings = options.screen(context, output), load()
    source = source.absolute()
    say = backup.teller(screen, quiet)
    store.read_manifest(source)
    with backup.database(settings) as dsn:
        blobs = partial(open_store, settings.blobs, settings.data_dir)
        manifest = asyncio.run(store.restore(dsn, source, force=force, say=say, blobs=blobs))
    say(
        "Open executions go on when AgentFlow starts on this database. Do not let the one that the "
        "backup was taken from go on too: both would make the same calls."
    )
    backup.show(screen, manifest, source)
