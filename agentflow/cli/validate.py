"""``agentflow validate``: the problems of a workflow, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import document, options, outcome
from agentflow.cli.screen import Format, Screen
from agentflow.errors import SpecInvalid

if TYPE_CHECKING:
    from agentflow.spec.check import Checked

Json = Any


def validate(
    context: typer.Context,
    file: options.SpecFile,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    output: options.Output = Format.table,
) -> int:
    """Check a workflow; exit code 3 when it is not valid."""
    screen = options.screen(context, output)
    content = document.bytes_of(file)
    checked = check(content)
    errors = [outcome.problem(found) for found in checked.errors]
    warnings = [outcome.problem(found) for found in checked.warnings]
    if strict:
        errors, warnings = errors + warnings, []
    if screen.structured:
        screen.document({"valid": not errors, "errors": errors, "warnings": warnings})
    else:
        explain(screen, errors + warnings, file, content)
        screen.text(_verdict(file, len(errors), len(warnings)))
    return outcome.INVALID if errors else outcome.OK


def check(content: bytes) -> Checked:
    """The checked form of a workflow's text, by this process's settings."""
    from agentflow.settings import load
    from agentflow.spec.check import check_text
    from agentflow.spec.environment import DEFAULT_ALLOWED

    return check_text(content, allowed_env=DEFAULT_ALLOWED | frozenset(load().source_env))


def accepted(screen: Screen, file: str) -> tuple[Json, Checked]:
    """The workflow of a file, as written and checked; leaves with exit code 3 when it is not valid."""
    from agentflow.spec.check import parse

    content = document.bytes_of(file)
    checked = check(content)
    if checked.valid:
        return parse(content), checked
    problems = [outcome.problem(found) for found in checked.errors]
    explain(screen, problems, file, content)
    screen.say(_verdict(file, len(problems), len(checked.warnings)))
    if screen.structured:
        screen.document(outcome.refused(SpecInvalid(problems)))
    raise typer.Exit(outcome.INVALID)


def explain(
    screen: Screen, problems: list[dict[str, Json]], file: str = "", content: bytes = b""
) -> None:
    """Tell each problem: code, what is wrong, where, the line itself, and a hint."""
    lines = content.decode("utf-8-sig", "replace").split("\n")
    for found in problems:
        screen.say(f"{found['code']} {found['message']}")
        line, column = found.get("line"), found.get("column")
        where = f"{file or 'line'}:{line}:{column or 1}" if line else found.get("path") or "/"
        named = f"  ({found['field']})" if found.get("field") else ""
        screen.say(f"  at {where}{named}")
        if line and line <= len(lines):
            shown, caret = _excerpt(lines[line - 1], (column or 1) - 1)
            screen.say(f"    {shown}\n    {caret}")
        if found.get("hint"):
            screen.say(f"  hint: {found['hint']}")


def _excerpt(line: str, column: int, width: int = 100) -> tuple[str, str]:
    start = max(0, min(column - width // 2, len(line) - width))
    shown = line[start : start + width].replace("\t", " ")
    indent = len(shown) - len(shown.lstrip()) if start == 0 else 0
    return shown[indent:], " " * max(0, column - start - indent) + "^"


def _verdict(file: str, errors: int, warnings: int) -> str:
    if errors:
        return f"{file}: not valid ({_count(errors, 'error')}, {_count(warnings, 'warning')})"
    return f"{file}: valid" + (f" ({_count(warnings, 'warning')})" if warnings else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
