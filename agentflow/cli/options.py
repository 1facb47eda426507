"""The options that several commands share, and what they hand on."""

from __future__ import annotations

from typing import Annotated

import typer

from agentflow.cli.screen import Format, Screen

Output = Annotated[
    Format, typer.Option("-o", "--output", help="How data is printed on stdout.", show_default=True)
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress on stderr.")]
Server = Annotated[
    bool, typer.Option("--server", help="Through a server: AGENTFLOW_API_URL, else the local one.")
]
Local = Annotated[bool, typer.Option("--local", help="In this process, without Ray.")]
SpecFile = Annotated[str, typer.Argument(metavar="FILE", help="A workflow in JSON; - reads stdin.")]


def screen(context: typer.Context, output: Format) -> Screen:
    """This invocation's screen, told how to print."""
    found: Screen = context.obj
    found.format = output
    return found


def at_most_one(**flags: bool) -> None:
    """Raises a usage error when more than one of these flags is given."""
    given = [f"--{name}" for name, value in flags.items() if value]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} exclude each other; give one of them.")
