"""``agentflow validate``: the problems of a workflow, without a server."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import document, options, outcome
from agentflow.cli.screen import Format, Screen, printable
from agentflow.errors import NotFound, SpecInvalid

if TYPE_CHECKING:
    from agentflow.spec.check import Checked
    from agentflow.spec.problems import Problem

Json = Any
WIDTH = 100
"""How many cells of a line are shown."""


def validate(
    context: typer.Context,
    file: options.SpecFile,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    node: Annotated[
        str | None, typer.Option("--node", metavar="ID", help="The problems of one node only.")
    ] = None,
    output: options.Output = Format.table,
) -> int:
    """Check a workflow; exit code 3 when it is not valid."""
    screen = options.screen(context, output)
    content = document.bytes_of(file)
    checked = check(content, prices=True)
    errors, warnings = (
        [outcome.problem(found) for found in _asked_for(content, problems, node)]
        for problems in (checked.errors, checked.warnings)
    )
    if strict:
        errors, warnings = errors + warnings, []
    if screen.structured:
        screen.document({"valid": not errors, "errors": errors, "warnings": warnings})
    else:
        explain(screen, errors + warnings, file, content)
        screen.text(_verdict(file, len(errors), len(warnings)))
    return outcome.INVALID if errors else outcome.OK


def check(content: bytes, *, prices: bool = False) -> Checked:
    """The checked form of a workflow's text, by this process's settings. ``prices``: judge also
    whether the price of each model is known (W010), which takes a moment."""
    from agentflow.settings import load
    from agentflow.sources.prices import price_known
    from agentflow.spec.check import check_text
    from agentflow.spec.environment import DEFAULT_ALLOWED

    return check_text(
        content,
        allowed_env=DEFAULT_ALLOWED | frozenset(load().source_env),
        priced=price_known if prices else None,
    )


def _asked_for(content: bytes, found: Sequence[Problem], node: str | None) -> Sequence[Problem]:
    """The problems of one node, or all of them. Raises NotFound."""
    from agentflow.spec.check import parse
    from agentflow.spec.problems import about_node

    if node is None:
        return found
    try:
        parsed = parse(content)
    except SpecInvalid:
        return found
    problems = about_node(found, parsed, node)
    if problems is None:
        raise NotFound(f"The workflow has no node {node[:100]!r}.")
    return problems


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
    """Tell each problem, in the order of the file: code, what is wrong, where, the line itself with a
    caret under the place, and a hint."""
    lines = content.decode("utf-8-sig", "replace").split("\n")
    for found in sorted(problems, key=lambda p: (p.get("line") or 0, p.get("column") or 0)):
        screen.say(f"{found['code']} {found['message']}")
        line, column = found.get("line"), found.get("column")
        where = f"{file or 'line'}:{line}:{column or 1}" if line else found.get("path") or "/"
        named = f"  ({found['field']})" if found.get("field") else ""
        screen.say(f"  at {where}{named}")
        if line and line <= len(lines):
            for shown in excerpt(lines[line - 1], column):
                screen.say(f"    {shown}")
        if found.get("hint"):
            screen.say(f"  hint: {found['hint']}")


def excerpt(line: str, column: int | None, width: int = WIDTH) -> list[str]:
    """A line as a terminal can show it, and a second one with a caret under a column (counted from 1,
    in characters; none without it). What is cut off at an end is shown as an ellipsis."""
    text = printable(line.rstrip("\r").replace("\t", " "))
    at = min(max((column or 1) - 1, 0), len(text))
    start = len(text) - len(text.lstrip()) if text.strip() else 0
    text, at = text[start:].rstrip(), max(0, at - start)
    cells = [_cells(char) for char in text]
    if sum(cells) > width:
        first = at
        while first > 0 and sum(cells[first - 1 : at]) <= width // 2:
            first -= 1
        last = first
        while last < len(text) and sum(cells[first : last + 1]) <= width:
            last += 1
        before, after = "…" if first else "", "…" if last < len(text) else ""
        text, cells, at = before + text[first:last] + after, cells[first:last], at - first
        cells = [1, *cells] if before else cells
        at += len(before)
    shown = [text]
    if column is not None:
        shown.append(" " * sum(cells[:at]) + "^")
    return shown


def _cells(char: str) -> int:
    """How many cells of a terminal a character takes."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _verdict(file: str, errors: int, warnings: int) -> str:
    if errors:
        return f"{file}: not valid ({_count(errors, 'error')}, {_count(warnings, 'warning')})"
    return f"{file}: valid" + (f" ({_count(warnings, 'warning')})" if warnings else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
