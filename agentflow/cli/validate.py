"""``agentflow validate``: the problems of a workflow, without a server."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentflow.cli import document, options, outcome
from agentflow.cli.screen import Format, Screen

Json = Any


def validate(
    context: typer.Context,
    file: options.SpecFile,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    output: options.Output = Format.table,
) -> int:
    """Check a workflow; exit code 3 when it is not valid."""
    screen = options.screen(context, output)
    text = document.text_of(file)
    checked = check(text)
    errors = [outcome.problem(found) for found in checked.errors]
    warnings = [outcome.problem(found) for found in checked.warnings]
    if strict:
        errors, warnings = errors + warnings, []
    if screen.structured:
        screen.document({"valid": not errors, "errors": errors, "warnings": warnings})
    else:
        explain(screen, errors + warnings, file, text)
        screen.text(_verdict(file, len(errors), len(warnings)))
    return outcome.INVALID if errors else outcome.OK


def check(text: str) -> Any:
    """The checked form of a workflow's text, by this process's settings."""
    from agentflow import settings
    from agentflow.spec.check import check as check_document
    from agentflow.spec.check import parse

    del settings
    return check_document(parse(text), text=text)


def explain(screen: Screen, problems: list[dict[str, Json]], file: str = "", text: str = "") -> None:
    """Tell each problem: code, what is wrong, where, the line itself, and a hint."""
    lines = text.splitlines()
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
