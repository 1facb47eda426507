"""``agentflow sources``: the sources that a workflow brings along, and whether they answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from agentflow.cli import options, outcome, validate
from agentflow.cli.screen import Format
from agentflow.errors import NotFound, NotSupported, StepError

if TYPE_CHECKING:
    from agentflow.plan.plan import PlanSource
    from agentflow.settings import Settings
    from agentflow.sources.base import ModelSource
    from agentflow.sources.connections import Connections
    from agentflow.sources.sql import SqlService

Json = Any
TENANT = "command-line"
QUESTION = "Answer with the word ok."
TOKENS = 16
"""A model is asked for so few that a test costs next to nothing."""

app = typer.Typer(help="Sources of a workflow.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _sources() -> None:
    """Sources of a workflow."""


@app.command("list")
def list_(
    context: typer.Context, file: options.SpecFile, output: options.Output = Format.table
) -> None:
    """List the sources of a workflow, and which of their credentials are set here."""
    from agentflow.settings import load

    screen = options.screen(context, output)
    _, checked = validate.accepted(screen, file)
    settings = load()
    sources = (checked.normalized or {}).get("sources") or ()
    found = [_described(source, settings) for source in sources]
    if screen.structured:
        screen.document({"sources": found})
        return
    columns = ("ID", "KIND", "PROVIDER", "MODEL", "ADDRESS", "CREDENTIALS")
    screen.table(columns, [_row(each) for each in found])


@app.command("test")
def test(
    context: typer.Context,
    file: options.SpecFile,
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="ID", help="Only this one; repeatable.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds that each one may take.")
    ] = 30.0,
    output: options.Output = Format.table,
) -> int:
    """Open each source for real: a model answers one short question, a database SELECT 1, a service GET
    on its address; the provider of pictures is asked for its models. Exit code 1 if one does not."""
    from agentflow.plan.compile import compile_plan
    from agentflow.settings import load

    screen = options.screen(context, output)
    _, checked = validate.accepted(screen, file)
    plan = compile_plan(checked.normalized or {})
    unknown = set(source or ()) - {each.id for each in plan.sources}
    if unknown:
        raise NotFound(f"The workflow has no source {sorted(unknown)[0][:100]!r}")
    wanted = [each for each in plan.sources if not source or each.id in source]
    told = asyncio.run(_tested(load(), wanted, timeout))
    if screen.structured:
        screen.document({"sources": told})
    else:
        columns = ("ID", "KIND", "CONNECTED", "MS", "MESSAGE")
        names = ("source_id", "kind", "connected", "latency_ms", "message")
        screen.table(columns, [[each[name] for name in names] for each in told])
    failed = any(each["connected"] is False for each in told)
    return outcome.FAILED if failed else outcome.OK


def _described(source: Mapping[str, Json], settings: Settings) -> dict[str, Json]:
    """A source as it is listed: names of credentials, never values."""
    from agentflow.spec.environment import allowed
    from agentflow.spec.kinds.sources import provider_of

    config = source.get("config") or {}
    names = [value for key, value in config.items() if key.endswith("_env")]
    addresses = ("base_url", "azure_endpoint", "url")
    return {
        "id": source["id"],
        "kind": source["kind"],
        "provider": provider_of(source["kind"], config) or None,
        "model": config.get("model") or config.get("deployment"),
        "address": next((config[name] for name in addresses if config.get(name)), None),
        "credentials": {
            name: allowed(name, settings.source_env) and bool(os.environ.get(name, "").strip())
            for name in names
        },
    }


def _row(found: Mapping[str, Json]) -> list[Json]:
    names = found["credentials"]
    said = ", ".join(name if there else f"{name} (not set)" for name, there in names.items())
    return [found[name] for name in ("id", "kind", "provider", "model", "address")] + [said]


async def _tested(
    settings: Settings, sources: list[PlanSource], timeout: float
) -> list[dict[str, Json]]:
    from agentflow.flow import open_connections

    connections = open_connections(settings)
    try:
        return [await _test(connections, source, timeout) for source in sources]
    finally:
        await connections.close()


async def _test(connections: Connections, source: PlanSource, timeout: float) -> dict[str, Json]:
    """Whether one source answers; ``connected`` is null where there is no test of its kind yet."""
    from agentflow.sources.base import BilledError

    began = time.monotonic()
    connected: bool | None = True
    try:
        if source.kind == "llm":
            async with asyncio.timeout(timeout):
                opened = await connections.open(source, TENANT)
                message = await _ask(cast("ModelSource", opened), timeout)
        elif source.kind in _TESTS:
            async with asyncio.timeout(timeout):
                message = await _TESTS[source.kind](await connections.open(source, TENANT), timeout)
        else:
            connected, message = None, f"sources of kind {source.kind} are not tested"
    except BilledError as error:
        message = f"it answered, but: {error.error.message}"
    except (StepError, NotSupported) as error:
        connected, message = False, error.message
    except TimeoutError:
        connected, message = False, f"no answer within {timeout:g} s"
    latency = round((time.monotonic() - began) * 1000)
    return {
        "source_id": source.id,
        "kind": source.kind,
        "connected": connected,
        "message": message,
        "latency_ms": None if connected is None else latency,
    }


async def _ask(model: ModelSource, timeout: float) -> str:
    from agentflow.sources.base import Message, ModelRequest

    question = ModelRequest(
        messages=(Message("user", QUESTION),), max_tokens=TOKENS, timeout_s=timeout
    )
    reply = await model.generate(question)
    return f"model {reply.model} answered with {reply.output_tokens} tokens"


async def _look(painter: Any, timeout: float) -> str:
    """A picture would cost; what the provider says of its models does not."""
    return str(await painter.look(timeout))


async def _query(database: Any, timeout: float) -> str:
    from agentflow.sources.sql import SqlRequest

    await database.execute(SqlRequest(text="SELECT 1 AS answer", timeout_s=timeout))
    return "the database answered"


async def _call(service: Any, timeout: float) -> str:
    """Any reply but a refusal shows that the service is there."""
    from agentflow.errors import ProviderAuthError, ProviderUnavailable
    from agentflow.sources.exchange import ApiRequest, refused

    reply = await service.request(ApiRequest(method="GET", url="", timeout_s=timeout))
    error = refused(reply, "")
    if isinstance(error, ProviderAuthError | ProviderUnavailable):
        raise error
    return f"the service answered {reply.status}"


_TESTS: Mapping[str, Callable[[Any, float], Awaitable[str]]] = {
    "db": _query,
    "api": _call,
    "image": _look,
}


@app.command("prepare")
def prepare(
    context: typer.Context,
    file: options.SpecFile,
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="ID", help="Only this one; repeatable.")
    ] = None,
    output: options.Output = Format.table,
) -> None:
    """Create the table by which a repeated write is known, in every database that may be written."""
    from agentflow.plan.compile import compile_plan
    from agentflow.settings import load

    screen = options.screen(context, output)
    _, checked = validate.accepted(screen, file)
    plan = compile_plan(checked.normalized or {})
    found = [
        each
        for each in plan.sources
        if each.kind == "db" and each.config.get("allow_write") is True
    ]
    unknown = set(source or ()) - {each.id for each in found}
    if unknown or not found:
        named = f" {sorted(unknown)[0][:100]!r}" if unknown else ""
        raise NotFound(f"The workflow has no database{named} with allow_write")
    wanted = [each for each in found if not source or each.id in source]
    prepared = asyncio.run(_prepared(load(), wanted))
    if screen.structured:
        screen.document({"sources": prepared})
    else:
        names = ("source_id", "dedupe_table", "message")
        screen.table(
            ("ID", "TABLE", "MESSAGE"), [[each[name] for name in names] for each in prepared]
        )


async def _prepared(settings: Settings, sources: list[PlanSource]) -> list[dict[str, Json]]:
    """Raises StepError at the first database that refuses."""
    from agentflow.flow import open_connections

    connections = open_connections(settings)
    told = []
    try:
        for source in sources:
            database = cast("SqlService", await connections.open(source, TENANT))
            table = await database.prepare()
            named = source.config.get("dedupe_table") == table
            say = "writes take effect exactly once" if named else f'set "dedupe_table": "{table}"'
            told.append({"source_id": source.id, "dedupe_table": table, "message": say})
    finally:
        await connections.close()
    return told
