"""``agentflow keys``: the key that opens the API of this data folder."""

from __future__ import annotations

from typing import Annotated

import typer

from agentflow.cli import options
from agentflow.cli.screen import Format

app = typer.Typer(help="API keys.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _keys() -> None:
    """API keys."""


@app.command("show")
def show(
    context: typer.Context,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="The key that exists from the first start on.")
    ] = False,
    output: options.Output = Format.table,
) -> None:
    """Print a key. Only the bootstrap key can be shown; it is made if there is none yet."""
    if not bootstrap:
        raise typer.BadParameter("say --bootstrap: no other key is kept in readable form.")
    from agentflow import settings
    from agentflow.flow import bootstrap_key

    screen = options.screen(context, output)
    loaded = settings.load()
    key = bootstrap_key(loaded)
    origin = "API_KEY" if loaded.api_key else str(loaded.data_dir / "api-key")
    if screen.structured:
        screen.document({"api_key": key, "from": origin})
    else:
        screen.text(key)
