"""Which nodes may reuse results."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.spec.check import check

Json = Any
SOURCES = [
    {"id": "m", "kind": "llm", "config": {"provider": "local", "model": "m"}},
    {
        "id": "d",
        "kind": "db",
        "config": {
            "driver": "postgres",
            "dsn_env": "DSN",
            "allow_write": True,
            "dedupe_table": "t",
        },
    },
]
WRITE = {"source": "d", "query": "DELETE FROM t", "mode": "write"}
PAGE = {"url": "https://a.example/x"}


def refusals(node: dict[str, Json]) -> list[str]:
    """The messages of what is wrong with the node's ``cache``."""
    document = {
        "nodes": [{"id": "n", "cache": {"ttl_s": 60}, **node}],
        "sources": SOURCES,
        "start_node": "n",
    }
    found = check(document, allowed_env=("DSN",))
    assert {(p.code, p.field) for p in found.errors} <= {("E003", "nodes[0].cache")}
    return [problem.message for problem in found.errors]


@pytest.mark.parametrize("node", [
    {"type": "llm", "metadata": {"source": "m"}},
    {"type": "db", "metadata": {"source": "d", "query": "SELECT 1"}},
    {"type": "http", "metadata": PAGE},
    {"type": "http", "metadata": {**PAGE, "method": "POST"}, "effects": "pure"},
    {"type": "http", "metadata": {**PAGE, "method": "PUT"}, "effects": "pure"},
    {"type": "db", "metadata": WRITE, "effects": "pure"},
    {"type": "aggregator"},
    {"type": "input"},
], ids=str)  # fmt: skip
def test_check_lets_results_be_reused(node: dict[str, Json]) -> None:
    assert refusals(node) == []


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ({"type": "llm", "metadata": {"source": "m"}, "effects": "once"}, "effects are 'once'"),
        ({"type": "http", "metadata": {**PAGE, "method": "POST"}}, "effects are 'once'"),
        (
            {"type": "http", "metadata": {**PAGE, "method": "POST"}, "effects": "idempotent"},
            "changes something outside",
        ),
        ({"type": "http", "metadata": {**PAGE, "method": "PUT"}}, "changes something outside"),
        ({"type": "http", "metadata": {**PAGE, "method": "DELETE"}}, "changes something outside"),
        ({"type": "db", "metadata": WRITE}, "changes something outside"),
        ({"type": "human", "metadata": {"prompt": "well?"}}, "answer to an earlier wait"),
        ({"type": "wait", "metadata": {"seconds": 1}}, "answer to an earlier wait"),
    ],
    ids=str,
)
def test_check_refuses_to_reuse_results(node: dict[str, Json], why: str) -> None:
    (message,) = refusals(node)
    assert "node 'n'" in message and why in message
