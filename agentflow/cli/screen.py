"""The terminal: data on stdout, everything else on stderr. The only printer of the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO

Json = Any


class Format(StrEnum):
    """How data is printed: a table for people, one JSON document, or one YAML document."""

    table = "table"
    json = "json"
    yaml = "yaml"


class ReaderGone(Exception):
    """Whoever read stdout has closed it. Not an OSError: the command line's library would exit with 1."""


class Screen:
    """Where this invocation prints. ``format`` is set by the command once its options are read."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self.format = Format.table
        self.documents = 0

    @property
    def structured(self) -> bool:
        """Whether a program reads stdout."""
        return self.format is not Format.table

    def document(self, value: Json) -> None:
        """Print the one document of this invocation."""
        self.documents += 1
        text = yaml(value) if self.format is Format.yaml else _json(value)
        self._write(text.rstrip("\n") + "\n")

    def text(self, value: str) -> None:
        """Print data that is plain text."""
        self._write(printable(value).rstrip("\n") + "\n")

    def _write(self, text: str) -> None:
        try:
            self.out.write(text)
            self.out.flush()
        except BrokenPipeError as closed:
            raise ReaderGone from closed

    def say(self, message: str) -> None:
        """Tell the person something, on stderr."""
        self.err.write(printable(message).rstrip("\n") + "\n")
        self.err.flush()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Json]]) -> None:
        """Print rows: drawn on a terminal, separated by tabs elsewhere. No cell is ever cut off."""
        cells = [[printable(_cell(cell)) for cell in row] for row in rows]
        if not self.out.isatty():
            lines = ["\t".join(columns), *("\t".join(row) for row in cells)]
            self.text("\n".join(" ".join(line.split("\n")) for line in lines))
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, no_wrap=number == 0, overflow="fold")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        Console(file=self.out).print(table)


def printable(text: str) -> str:
    """The text without control characters (a model's reply must not drive the terminal)."""
    clean = "".join(
        char
        if char in "\n\t" or (char.isprintable() or char == " ")
        else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )
    return clean.encode("utf-8", "replace").decode("utf-8")


def yaml(value: Json, indent: int = 0) -> str:
    """JSON data as block YAML; every scalar is written as JSON, which YAML reads alike."""
    pad = "  " * indent
    if isinstance(value, Mapping) and value:
        return "".join(
            f"{pad}{_json(str(key))}:{_yaml_below(item, indent)}" for key, item in value.items()
        )
    if isinstance(value, (list, tuple)) and value:
        return "".join(f"{pad}-{_yaml_below(item, indent)}" for item in value)
    return f"{pad}{_json(value)}\n"


def _yaml_below(value: Json, indent: int) -> str:
    if isinstance(value, (Mapping, list, tuple)) and value:
        return "\n" + yaml(value, indent + 1)
    return f" {_json(value)}\n"


def _json(value: Json) -> str:
    pretty = 2 if isinstance(value, (dict, list, tuple)) else None
    text = json.dumps(value, indent=pretty, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cell(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
