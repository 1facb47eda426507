"""Reads what the person gives: the workflow, and the initial state."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

Json = Any
MAX_BYTES = 8 * 1024 * 1024
_BUILT_IN = {"user_input": "string", "intent": "string", "text_result": "string"}


def text_of(path: str) -> str:
    """The text of a workflow file. Raises a usage error when there is none, or it is not text."""
    return _decoded(path, _bytes(path))


def initial_state(
    document: Json, inputs: Sequence[str], input_file: str | None
) -> dict[str, Json]:
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
    if key.endswith(":"):
        return key[:-1], _parsed(key[:-1], value)
    if value.startswith("@"):
        return key, text_of(value[1:])
    kind = _declared(document).get(key, "string")
    return key, (value if kind == "string" else _parsed(key, value))


def _declared(document: Json) -> dict[str, str]:
    state = document.get("state") if isinstance(document, dict) else None
    own = {
        name: field.get("type") or "string"
        for name, field in (state if isinstance(state, dict) else {}).items()
        if isinstance(field, dict)
    }
    return {**_BUILT_IN, **own}


def _parsed(key: str, value: str) -> Json:
    try:
        return json.loads(value, parse_constant=_no_constant)
    except ValueError:
        raise typer.BadParameter(
            f"--input {key}: {value[:80]!r} is not JSON, and the field is not declared as a string."
        ) from None


def _object(path: str) -> dict[str, Json]:
    text = text_of(path)
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise typer.BadParameter(f"{path} is nested too deeply (the limit is 64).") from None
    except ValueError as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{path} must hold one JSON object, the initial state.")
    return value


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON number")


def _bytes(path: str) -> bytes:
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


def _bounded(path: str, content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise typer.BadParameter(f"{path} is larger than 8 MB.")
    return content


def _decoded(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text (byte {error.start}).") from None
