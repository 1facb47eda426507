"""``agentflow serve``: Ray, the embedded servers and the API, until it is told to stop."""

from __future__ import annotations

from typing import Annotated

import typer

from agentflow.errors import ConfigError


def serve(
    host: Annotated[str | None, typer.Option("--host", help="The address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Free one is found without it.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="A Ray cluster to join instead of starting one.")
    ] = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="The data folder.")] = None,
) -> int:
    """Start the server; SIGTERM or Ctrl-C drains and stops it."""
    raise ConfigError("unfinished")
