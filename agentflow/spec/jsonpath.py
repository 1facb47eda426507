"""JSONPath (RFC 9535), as far as it can be judged without a value: whether a text is one."""

from __future__ import annotations

import re

_STEP = re.compile(r"(?:\.\.|\.)(?:\*|[^\W\d][\w-]*)|\.\.(?=\[)")
_INDEX = re.compile(r"-?(?:0|[1-9]\d*)")
_SLICE = re.compile(r"(?:-?\d+)?\s*:\s*(?:-?\d+)?(?:\s*:\s*(?:-?\d+)?)?")
_CLOSING = {"[": "]", "(": ")"}


def jsonpath_problem(text: str) -> str | None:
    """Why a text is not a JSONPath, or None when it is."""
    if not text.startswith("$"):
        return "does not begin with '$'"
    at = 1
    while at < len(text):
        if step := _STEP.match(text, at):
            at = step.end()
            continue
        if text[at] != "[":
            return f"cannot be read at character {at}"
        end = _closing(text, at)
        if end < 0:
            return f"has a bracket at character {at} that is never closed"
        if not all(_selector(part.strip()) for part in _parts(text[at + 1 : end])):
            return f"has no valid selector in the brackets at character {at}"
        at = end + 1
    return None


def _closing(text: str, at: int) -> int:
    """Where the bracket at this place is closed, or -1; brackets in quotes do not count."""
    waiting: list[str] = []
    while at < len(text):
        char = text[at]
        if char in "'\"":
            at = _quote_end(text, at)
            if at < 0:
                return -1
        elif char in _CLOSING:
            waiting.append(_CLOSING[char])
        elif char in "])":
            if waiting.pop() != char:
                return -1
            if not waiting:
                return at
        at += 1
    return -1


def _quote_end(text: str, at: int) -> int:
    quote, at = text[at], at + 1
    while at < len(text) and text[at] != quote:
        at += 2 if text[at] == "\\" else 1
    return at if at < len(text) else -1


def _parts(inside: str) -> list[str]:
    """The selectors between brackets, which commas outside quotes and brackets separate."""
    parts, start, at = [], 0, 0
    while at < len(inside):
        if inside[at] in "'\"":
            at = _quote_end(inside, at)
        elif inside[at] in _CLOSING:
            at = _closing(inside, at)
        elif inside[at] == ",":
            parts.append(inside[start:at])
            start = at + 1
        at += 1
    return [*parts, inside[start:]]


def _selector(part: str) -> bool:
    if part[:1] in ("'", '"'):
        return _quote_end(part, 0) == len(part) - 1
    if part.startswith("?"):
        return bool(part[1:].strip())
    return part == "*" or bool(_INDEX.fullmatch(part) or _SLICE.fullmatch(part))
