"""``agentflow schema``: the JSON Schema of a workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentflow.cli import options
from agentflow.cli.screen import Format


def schema(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it to this file.", dir_okay=False)
    ] = None,
    output: options.Output = Format.json,
) -> None:
    """Print the JSON Schema of a workflow."""
    from agentflow.spec.schema import workflow_schema

    screen = options.screen(context, Format.json if output is Format.table else output)
    found = workflow_schema()
    if out is None:
        screen.document(found)
        return
    import json

    out.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    screen.say(f"Written to {out}")
