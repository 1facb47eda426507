"""``agentflow models``: what is known about the models of the providers."""

from __future__ import annotations

from typing import Annotated

import typer

from agentflow.cli import options
from agentflow.cli.screen import Format

app = typer.Typer(help="Language models.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _models() -> None:
    """Language models."""


@app.command("prices")
def prices(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="Part of a model's name.")] = "",
    provider: Annotated[
        str | None,
        typer.Option("--provider", help="openai, azure, anthropic or gemini. Default: all."),
    ] = None,
    output: options.Output = Format.table,
) -> None:
    """List the built-in prices, in US dollars per million tokens; a source's own price goes first."""
    from agentflow.sources.prices import PROVIDERS, known_prices

    if provider is not None and provider not in PROVIDERS:
        raise typer.BadParameter(f"--provider is one of {', '.join(PROVIDERS)}.")
    screen = options.screen(context, output)
    found = known_prices(provider, text)
    if screen.structured:
        screen.document({"prices": [price._asdict() for price in found], "currency": "USD"})
        return
    screen.table(("PROVIDER", "MODEL", "INPUT", "OUTPUT", "CACHED"), found)
    if not found:
        screen.say(
            f"No price is known for {text or 'any model'}. A source can name its own in `price`, "
            'as {"input_per_mtok": 1.5, "output_per_mtok": 6}.'
        )
