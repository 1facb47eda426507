"""Reads what the person gives: the workflow, and the initial state."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from agentflow.errors import SpecInvalid

Json = Any
MAX_BYTES = 64_000_000
_BUILT_IN = {"user_input": "string", "intent": "string", "text_result": "string"}


def bytes_of(path: str) -> bytes:
    """The content of a file, or of stdin for ``-``. Raises a usage error when it cannot be read."""
    if path == "-":
        return _bounded("stdin", sys.stdin.buffer.read(MAX_BYTES + 1))
    try:
        with Path(path).open("rb") as file:
            return _bounded(path, file.read(MAX_BYTES + 1))
    except FileNotFoundError:
        raise typer.BadParameter(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise typer.BadParameter(f"{path} is a folder, not a file.") from None
    except PermissionError:
        raise typer.BadParameter(f"{path} may not be read by this user.") from None
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path!r} cannot be read: {error}.") from None


def initial_state(document: Json, inputs: Sequence[str], input_file: str | None) -> dict[str, Json]:
    """The initial state: the file, if one is given, and over it each ``key=value``."""
    state: dict[str, Json] = {}
    if input_file is not None:
        state = _object(input_file)
    for item in inputs:
        key, value = _pair(document, item)
        state[key] = value
    return state


def _pair(document: Json, item: str) -> tuple[str, Json]:
    key, found, value = item.partition("=")
    if not found or not key.strip(":"):
        raise typer.BadParameter(f"--input {item!r} is not key=value.")
    if not item.isprintable() and any("\ud800" <= char <= "\udfff" for char in item):
        raise typer.BadParameter(f"--input {key!r} is not UTF-8 text.")
    if key.endswith(":"):
        return key[:-1], _parsed(key[:-1], value)
    if value.startswith("@"):
        return key, _decoded(value[1:], bytes_of(value[1:]))
    kind = _declared(document).get(key, "string")
    return key, (value if kind == "string" else _parsed(key, value))


def setting(item: str) -> tuple[str, Json]:
    """A dotted path and its value: ``path=text`` or ``path:=json``. Raises a usage error."""
    path, found, value = item.partition("=")
    if not found or not path.strip(":"):
        raise typer.BadParameter(f"--set {item!r} is neither path=text nor path:=json.")
    if path.endswith(":"):
        return path[:-1], _strict(f"--set {path[:-1]}", value)
    return path, value


def value_of(option: str, text: str) -> Json:
    """The value of an option that takes JSON. Raises a usage error."""
    return _strict(option, text)


def _declared(document: Json) -> dict[str, str]:
    state = document.get("state") if isinstance(document, dict) else None
    own = {
        name: field.get("type") or "string"
        for name, field in (state if isinstance(state, dict) else {}).items()
        if isinstance(field, dict)
    }
    return {**_BUILT_IN, **own}


def _parsed(key: str, value: str) -> Json:
    return _strict(f"--input {key} (a field that is not declared as a string)", value)


def _object(path: str) -> dict[str, Json]:
    value = _strict(path, bytes_of(path))
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{path} must hold one JSON object, the initial state.")
    return value


def _strict(place: str, text: str | bytes) -> Json:
    from agentflow.spec.check import parse

    try:
        return parse(text)
    except SpecInvalid as error:
        found = error.problems[0]
        line = f", line {found.line}" if found.line else ""
        raise typer.BadParameter(f"{place}{line}: {found.message}.") from None


def _bounded(path: str, content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise typer.BadParameter(f"{path} is larger than 64 MB.")
    return content


def _decoded(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text (byte {error.start}).") from None
