"""The command line's entry point: the commands, and the edge that no error passes as a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from agentflow.cli import doctor, executions, graph, keys, outcome, run, schema, serve, validate
from agentflow.cli.screen import Screen
from agentflow.errors import AgentFlowError, SpecInvalid

app = typer.Typer(
    name="agentflow",
    help="Durable LLM workflows on Ray.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("serve")(serve.serve)
app.command("validate")(validate.validate)
app.command("run")(run.run)
app.command("graph")(graph.graph)
app.command("schema")(schema.schema)
app.add_typer(executions.app, name="executions")
app.add_typer(keys.app, name="keys")
app.command("doctor")(doctor.doctor)


def _version(value: bool) -> None:
    if value:
        from agentflow import __version__

        typer.echo(f"agentflow {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """Durable LLM workflows on Ray."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks and leave the process with the documented exit code."""
    screen = Screen()
    code = _guarded(screen, list(sys.argv[1:] if arguments is None else arguments))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _guarded(screen: Screen, arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="agentflow", obj=screen, standalone_mode=False)
        return code if isinstance(code, int) else outcome.OK
    except typer.TyperException as error:
        error.show() if hasattr(error, "show") else screen.say(error.format_message())
        _document(screen, AgentFlowError(error.format_message()))
        return error.exit_code
    except AgentFlowError as error:
        _report(screen, error)
        return outcome.of_error(error)
    except (KeyboardInterrupt, typer.Abort):
        screen.say("Interrupted.")
        return outcome.DETACHED
    except BrokenPipeError:
        return outcome.OK
    except Exception as error:
        if os.environ.get("AGENTFLOW_DEBUG") == "1":
            raise
        text = " ".join(str(error).split())[:300]
        screen.say(
            f"An unexpected {type(error).__name__} stopped agentflow: {text or 'no details'}\n"
            "AGENTFLOW_DEBUG=1 shows where; `agentflow doctor` checks the machine."
        )
        _document(screen, AgentFlowError(f"{type(error).__name__}: {text}"))
        return outcome.FAILED


def _report(screen: Screen, error: AgentFlowError) -> None:
    if os.environ.get("AGENTFLOW_DEBUG") == "1":
        import traceback

        traceback.print_exception(error, file=screen.err)
    if isinstance(error, SpecInvalid):
        validate.explain(screen, [outcome.problem(found) for found in error.problems])
    screen.say(f"{error.message.rstrip('.')}.")
    _document(screen, error)


def _document(screen: Screen, error: AgentFlowError) -> None:
    if screen.structured and not screen.documents:
        screen.document(outcome.refused(error))
