"""Which statements may be executed: in read mode those that only read, in write mode those that
change rows. The words are looked at; the server's own read-only transaction is the wall behind them."""

from __future__ import annotations

from agentflow.spec.sql import Statement

READING = ("SELECT", "WITH", "EXPLAIN", "VALUES")
"""Words with which a statement that only reads begins."""
WRITING = ("INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "WITH", "SELECT")
"""Words with which a statement that changes rows begins."""

_CHANGES = {"INSERT": ("INTO",), "UPDATE": None, "DELETE": ("FROM",), "MERGE": ("INTO",)}
_EXPLAINED = ("SELECT", "WITH", "VALUES", "TABLE")
_LOCKS = ("UPDATE", "SHARE", "NO", "KEY")


def refusal(statement: Statement, mode: str) -> str | None:
    """Why a statement may not be executed in ``read`` or ``write`` mode; None when it may."""
    if statement.unclosed:
        return f"it has {statement.unclosed} that is never closed"
    if statement.count != 1:
        return "it holds more than one statement" if statement.count else "it holds no statement"
    if statement.executable:
        return "it has a comment that the server would execute"
    wanted = READING if mode == "read" else WRITING
    if statement.verb not in wanted:
        way_out = " (mode 'write' changes data)" if mode == "read" else ""
        return (
            f"it begins with {statement.verb[:40] or 'no SQL word'}, not with "
            f"{', '.join(wanted[:-1])} or {wanted[-1]}{way_out}"
        )
    return _hidden_change(statement) if mode == "read" else None


def _hidden_change(statement: Statement) -> str | None:
    tokens = [*statement.tokens(), ("", "")]
    explained = statement.verb != "EXPLAIN"
    for index, (kind, text) in enumerate(tokens[:-1]):
        if kind != "word":
            continue
        before, after = tokens[index - 1] if index else ("", ""), tokens[index + 1]
        explained = explained or text in _EXPLAINED
        if text in _CHANGES and (before[1] in ("(", ")") or not explained):
            needs = _CHANGES[text]
            if needs is None or after[1] in needs or not explained:
                return f"it holds {text}, which changes data"
        if text == "INTO" and before[1] != ".":
            return "it holds INTO, which stores its rows"
        if text == "FOR" and after[1] in _LOCKS:
            return f"it holds FOR {after[1]}, which locks rows"
        if text == "LOCK" and after[1] == "IN":
            return "it holds LOCK IN SHARE MODE, which locks rows"
    return None
