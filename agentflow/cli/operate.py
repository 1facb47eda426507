"""``agentflow executions retry|resume|release|fork|diff``: what an operator does with executions."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from agentflow.cli import document, options, watch
from agentflow.cli.asking import Id, Operator, ask
from agentflow.cli.progress import Progress
from agentflow.cli.screen import Format, Screen

Json = Any
_AGAIN = "Watch it again with: agentflow executions watch {id}"
Watch = Annotated[
    bool, typer.Option("--watch", help="Follow it to its end; the exit code is its outcome.")
]


def retry(
    context: typer.Context,
    execution_id: Id,
    watching: Watch = False,
    local: options.Local = False,
    quiet: options.Quiet = False,
    output: options.Output = Format.table,
) -> int:
    """Let an execution go on from what failed, timed out or was cancelled."""
    screen = options.screen(context, output)

    async def asked(backend: Operator) -> int:
        answer = await backend.retry(execution_id)
        return await _begun(screen, backend, answer, watching or local, quiet)

    return int(ask(local, screen, asked))


def resume(
    context: typer.Context,
    execution_id: Id,
    signal: Annotated[
        str | None, typer.Option("--signal", metavar="NAME", help="The signal that is sent.")
    ] = None,
    wait: Annotated[
        str | None, typer.Option("--wait", metavar="WAIT", help="The wait that is answered.")
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NODE", help="The node that waits.")
    ] = None,
    data: Annotated[
        str, typer.Option("--data", metavar="JSON", help="The answer, or the signal's payload.")
    ] = "null",
    watching: Watch = False,
    local: options.Local = False,
    quiet: options.Quiet = False,
    output: options.Output = Format.table,
) -> int:
    """Answer what an execution waits for, or send it a signal."""
    screen = options.screen(context, output)
    given = {"signal": signal, "wait_id": wait, "node_id": node}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise typer.BadParameter("Give one of --signal, --wait and --node.")
    answer = document.value_of("--data", data)

    async def asked(backend: Operator) -> int:
        taken = await backend.resume(execution_id, named, answer)
        return await _begun(screen, backend, taken, watching or local, quiet)

    return int(ask(local, screen, asked))


def release(
    context: typer.Context,
    execution_id: Id,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the request.")] = "",
    watching: Watch = False,
    local: options.Local = False,
    quiet: options.Quiet = False,
    output: options.Output = Format.table,
) -> int:
    """Let a quarantined execution run again."""
    screen = options.screen(context, output)

    async def asked(backend: Operator) -> int:
        answer = await backend.release(execution_id, reason)
        return await _begun(screen, backend, answer, watching or local, quiet)

    return int(ask(local, screen, asked))


def fork(
    context: typer.Context,
    execution_id: Id,
    from_node: Annotated[
        str, typer.Option("--from", metavar="STEP", help="The node at which to begin anew.")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="A field it began with, changed: path=text or path:=json; repeatable.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Begin without asking.")] = False,
    watching: Watch = False,
    local: options.Local = False,
    quiet: options.Quiet = False,
    output: options.Output = Format.table,
) -> int:
    """Begin a new execution from a step of another one; says first what is reused and what is paid."""
    screen = options.screen(context, output)
    state = dict(document.setting(change) for change in changes or [])

    async def asked(backend: Operator) -> int:
        told = await backend.fork(execution_id, from_node, state, preview=True)
        _tell(screen, told)
        if not yes and not _agreed():
            screen.say("Nothing was begun.")
            if screen.structured:
                screen.document(told)
            return 0
        made = await backend.fork(execution_id, from_node, state, preview=False)
        return await _begun(screen, backend, made, watching or local, quiet)

    return int(ask(local, screen, asked))


def diff(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="An execution id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    local: options.Local = False,
    output: options.Output = Format.table,
) -> None:
    """Compare two executions step by step."""
    screen = options.screen(context, output)
    found = ask(local, screen, lambda backend: backend.diff(a, b))
    if screen.structured:
        screen.document(found)
        return
    columns = ("STEP", "STATUS", "OUTPUT", "TOKENS", "COST", "SECONDS", "DIFFERENCE")
    whole = _compared("(all)", found["a"], found["b"], "", "")
    screen.table(columns, [*map(_row, found["nodes"]), whole])


async def _begun(
    screen: Screen, backend: Operator, answer: Json, watching: bool, quiet: bool
) -> int:
    """Follow what goes on now to its end, or say how to."""
    execution_id = answer["execution_id"]
    if watching:
        return await watch.follow(
            screen,
            backend,
            execution_id,
            progress=Progress(screen, quiet=quiet),
            timeout_s=None,
            left=_AGAIN.format(id=execution_id),
        )
    if screen.structured:
        screen.document(answer)
    else:
        screen.say(_AGAIN.format(id=execution_id))
        screen.text(f"{execution_id} {answer['status']}")
    return 0


def _tell(screen: Screen, told: Json) -> None:
    """What a fork reuses, and what it pays again."""
    reused, repeated = told["reused_steps"], told["repeated_steps"]
    screen.say(f"Reused ({len(reused)}, ${told['saved_cost']:.6f}): {', '.join(reused) or 'none'}")
    screen.say(
        f"Done and paid again ({len(repeated)}, ${told['estimated_cost']:.6f} last time): "
        f"{', '.join(repeated) or 'none'}; and whatever was never reached"
    )


def _agreed() -> bool:
    """Whether the person at the terminal says yes. Raises BadParameter where there is none."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("Nobody is there to ask: give --yes to begin the fork.")
    return typer.confirm("Begin?", err=True)


def _row(node: Json) -> tuple[Json, ...]:
    output = "same" if node["output_equal"] else "differs"
    return _compared(node["step"], node["a"], node["b"], output, node["difference"] or "")


def _compared(name: str, a: Json, b: Json, output: str, difference: str) -> tuple[Json, ...]:
    status, tokens, cost, seconds = (
        _two(a, b, field) for field in ("status", "tokens", "cost", "duration_s")
    )
    return name, status, output, tokens, cost, seconds, difference


def _two(a: Json, b: Json, field: str) -> str:
    """Both values of a field, or one where they are the same."""
    first, second = ("-" if side is None else str(side[field]) for side in (a, b))
    return first if first == second else f"{first} -> {second}"
