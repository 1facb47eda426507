"""``agentflow run``: execute a workflow and show it while it works."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentflow.cli import document, inprocess, options, validate, watch
from agentflow.cli.progress import Progress
from agentflow.cli.screen import Format, Screen
from agentflow.cli.server import Server
from agentflow.settings import Settings, load

Json = Any
_KEPT = (
    "It is kept in the data folder and goes on when AgentFlow starts there again; "
    "`agentflow executions cancel {id} --local` ends it."
)
_LOST = "It is not kept: it ends with this command."
_GOES_ON = "It goes on; watch it again with: agentflow executions watch {id}"


def run(
    context: typer.Context,
    file: options.SpecFile,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "-i", "--input", metavar="KEY=VALUE", help="A field of the initial state; repeatable."
        ),
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("--input-file", metavar="FILE", help="The whole initial state.")
    ] = None,
    local: options.Local = False,
    ray: Annotated[bool, typer.Option("--ray", help="On a Ray of its own.")] = False,
    langgraph: Annotated[
        bool,
        typer.Option(
            "--langgraph", help="On LangGraph's own runtime, in this process; nothing is kept."
        ),
    ] = False,
    server: options.Server = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.1, help="Seconds to wait for the end.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the id and leave; needs a server.")
    ] = False,
    quiet: options.Quiet = False,
    output: options.Output = Format.table,
) -> int:
    """Execute a workflow and show its progress."""
    screen = options.screen(context, output)
    options.at_most_one(local=local, ray=ray, langgraph=langgraph, server=server)
    settings = load()
    spec, checked = validate.accepted(screen, file)
    for warning in () if quiet else checked.warnings:
        screen.say(f"{warning.code} {warning.message}")
    state = document.initial_state(spec, inputs or [], input_file)
    to_server = server or bool(settings.api_url and not (local or ray or langgraph))
    if detach and not to_server:
        raise typer.BadParameter("--detach needs a server to go on: set AGENTFLOW_API_URL.")
    steps = tuple(node["id"] for node in (checked.normalized or spec)["nodes"])
    progress = Progress(screen, quiet=quiet, steps=steps)
    here = "langgraph" if langgraph else "local" if local else "ray"
    where = "server" if to_server else here
    import asyncio

    return asyncio.run(_run(screen, settings, where, (spec, state), progress, timeout, detach))


async def _run(
    screen: Screen,
    settings: Settings,
    where: str,
    work: tuple[Json, Json],
    progress: Progress,
    timeout_s: float | None,
    detach: bool,
) -> int:
    backend = await open_backend(settings, where, progress)
    try:
        execution_id = await backend.submit(*work)
        if detach:
            screen.say(_GOES_ON.format(id=execution_id))
            record = {"execution_id": execution_id, "status": "pending"}
            screen.document(record) if screen.structured else screen.text(execution_id)
            return 0
        left = {"server": _GOES_ON, "langgraph": _LOST}.get(where, _KEPT).format(id=execution_id)
        return await watch.follow(
            screen, backend, execution_id, progress=progress, timeout_s=timeout_s, left=left
        )
    finally:
        await backend.close()


async def open_backend(settings: Settings, where: str, progress: Progress) -> watch.Backend:
    """A server, or an engine in this process with workers of its own or on Ray, or LangGraph's."""
    if where == "server":
        return Server(settings)
    if where == "local":
        return await inprocess.open_local(settings)
    if where == "langgraph":
        progress.tell("On LangGraph's runtime: nothing is kept; if this process ends, all is lost")
        return await inprocess.open_langgraph(settings)
    progress.tell("Starting Ray and the workers (about 15 s; --local does without)")
    return await inprocess.open_ray(settings)
