"""``agentflow executions``: what was executed, and what is under way."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any

import typer

from agentflow.cli import operate, options, watch
from agentflow.cli.asking import Id, ask
from agentflow.cli.progress import Progress, seconds_of
from agentflow.cli.screen import Format

Json = Any
CANCEL_S = 5.0
"""How long the command waits to see the end; a living owner needs at most two seconds."""

app = typer.Typer(help="Executions, past and present.", no_args_is_help=True, rich_markup_mode=None)
for command in (operate.retry, operate.resume, operate.release, operate.fork, operate.diff):
    app.command(command.__name__)(command)


@app.command("list")
def list_(
    context: typer.Context,
    status: Annotated[
        str | None, typer.Option("--status", help="Only those with this status.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="At most so many.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Of the page before.")] = None,
    local: options.Local = False,
    output: options.Output = Format.table,
) -> None:
    """List executions, newest first."""
    screen = options.screen(context, output)
    page = ask(local, screen, lambda backend: backend.list(status, limit, cursor))
    if screen.structured:
        screen.document(page)
        return
    columns = ("ID", "STATUS", "WORKFLOW", "CREATED", "SECONDS", "TOKENS", "COST")
    screen.table(columns, [_row(found) for found in page["executions"]])
    if page.get("next_cursor"):
        screen.say(f"{page.get('total', 'more')} in all; next: --cursor {page['next_cursor']}")


@app.command("get")
def get(
    context: typer.Context,
    execution_id: Id,
    local: options.Local = False,
    output: options.Output = Format.table,
) -> None:
    """Show one execution with its steps."""
    screen = options.screen(context, output)
    found = ask(local, screen, lambda backend: backend.get(execution_id))
    if screen.structured:
        screen.document(found)
        return
    columns = ("STEP", "STATUS", "ATTEMPTS", "SECONDS", "TOKENS", "COST", "ERROR")
    screen.table(columns, [_step(step) for step in found.get("steps") or []])
    watch.report(screen, found)


@app.command("watch")
def watch_(
    context: typer.Context,
    execution_id: Id,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.1, help="Seconds to watch.")
    ] = None,
    local: options.Local = False,
    quiet: options.Quiet = False,
    output: options.Output = Format.table,
) -> int:
    """Follow an execution to its end; the exit code is its outcome."""
    screen = options.screen(context, output)

    def follow(backend: watch.Backend) -> Awaitable[int]:
        return watch.follow(
            screen,
            backend,
            execution_id,
            progress=Progress(screen, quiet=quiet),
            timeout_s=timeout,
            left=f"Watch it again with: agentflow executions watch {execution_id}",
        )

    return int(ask(local, screen, follow))


@app.command("cancel")
def cancel(
    context: typer.Context,
    execution_id: Id,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the journal.")] = "",
    local: options.Local = False,
    output: options.Output = Format.table,
) -> None:
    """Ask that an execution ends; it does within seconds."""
    screen = options.screen(context, output)

    async def asked(backend: watch.Backend) -> Json:
        await backend.cancel(execution_id, reason)
        return await watch.until_over(backend, execution_id, CANCEL_S)

    found = ask(local, screen, asked)
    if screen.structured:
        screen.document(found)
    else:
        asked_for = "" if found["status"] in watch.OVER else " (asked to cancel)"
        screen.text(f"{execution_id} {found['status'].replace('_', ' ')}{asked_for}")


def _row(found: Json) -> tuple[Json, ...]:
    metrics = found.get("metrics") or {}
    name = found.get("workflow_name") or found.get("workflow_id")
    seconds = metrics.get("execution_time")
    return (
        found["id"],
        found["status"],
        name,
        found.get("created_at"),
        None if seconds is None else round(seconds, 3),
        metrics.get("tokens_used"),
        metrics.get("cost"),
    )


def _step(step: Json) -> tuple[Json, ...]:
    error = step.get("error") or {}
    begun, ended = seconds_of(step.get("started_at")), seconds_of(step.get("ended_at"))
    seconds = step.get("duration_s")
    if seconds is None and begun is not None and ended is not None:
        seconds = ended - begun
    return (
        step["step"],
        f"{step['status']} (cached)" if step.get("cached") else step["status"],
        step.get("attempts"),
        None if seconds is None else round(seconds, 3),
        step.get("tokens"),
        step.get("cost"),
        f"{error['type']}: {error['message']}" if error else None,
    )
