"""The command line's entry point: the commands, and the edge that no error passes as a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from agentflow.cli import outcome
from agentflow.cli.screen import Format, ReaderGone, Screen
from agentflow.errors import AgentFlowError, InvalidInput, SpecInvalid

COMMANDS = (
    "serve", "validate", "run", "graph", "schema", "executions", "blobs", "sources", "models", "keys",
    "backup", "restore", "doctor",
)  # fmt: skip
"""Each is a module of this folder, with a function of its name or a group of commands (``app``)."""


def build(arguments: Sequence[str]) -> typer.Typer:
    """The commands. Only the module of the one that is asked for is loaded, all for the help."""
    app = typer.Typer(
        name="agentflow",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(_options)
    asked = [name for name in arguments[:1] if name in COMMANDS]
    for name in asked or COMMANDS:
        module = import_module(f"agentflow.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def _version(value: bool) -> None:
    if value:
        from agentflow import __version__

        typer.echo(f"agentflow {__version__}")
        raise typer.Exit


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
        app = build(arguments)
        code = app(arguments, prog_name="agentflow", obj=screen, standalone_mode=False)
        if code == outcome.DETACHED:  # also what typer makes of a Ctrl-C at any moment
            _document(screen, AgentFlowError("Interrupted"))
        return code if isinstance(code, int) else outcome.OK
    except typer.TyperException as error:
        error.show() if hasattr(error, "show") else screen.say(error.format_message())
        screen.format = _format_of(arguments, screen.format)
        _document(screen, InvalidInput(error.format_message()))
        return error.exit_code
    except AgentFlowError as error:
        _report(screen, error)
        return outcome.of_error(error)
    except (KeyboardInterrupt, typer.Abort):
        screen.say("Interrupted.")
        screen.format = _format_of(arguments, screen.format)
        _document(screen, AgentFlowError("Interrupted"))
        return outcome.DETACHED
    except (BrokenPipeError, ReaderGone):
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


def _format_of(arguments: Sequence[str], known: Format) -> Format:
    """How to print, for a command line that is refused before its options are read."""
    words = " ".join(arguments).replace("--output", "-o").replace("=", " ").replace("-o ", "-o")
    found = [word for word in words.split() if word in ("-ojson", "-oyaml")]
    return Format(found[-1][2:]) if found else known


def _report(screen: Screen, error: AgentFlowError) -> None:
    if os.environ.get("AGENTFLOW_DEBUG") == "1":
        import traceback

        traceback.print_exception(error, file=screen.err)
    if isinstance(error, SpecInvalid):
        from agentflow.cli import validate

        validate.explain(screen, [outcome.problem(found) for found in error.problems])
    screen.say(f"{error.message.rstrip('.')}.")
    _document(screen, error)


def _document(screen: Screen, error: AgentFlowError) -> None:
    if screen.structured and not screen.documents:
        screen.document(outcome.refused(error))


if __name__ == "__main__":
    main()
