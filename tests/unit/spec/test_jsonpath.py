"""Which texts are JSONPaths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.spec.jsonpath import jsonpath_problem


@pytest.mark.parametrize(
    "text",
    ["$", "$.a", "$.a.b-c", "$..a", "$.*", "$..*", "$['a b']", '$["a"]', "$[0]", "$[-1]", "$[*]",
     "$[1:2]", "$[::2]", "$[1:]", "$[0,1]", "$['a','b]']", "$.a[?@.price < 10].title",
     "$[?(@.a == ']')]", "$..[0]", "$.ä"],
)  # fmt: skip
def test_jsonpath_is_accepted(text: str) -> None:
    assert jsonpath_problem(text) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "'$'"),
        ("a.b", "'$'"),
        ("$a", "character 1"),
        ("$.", "character 1"),
        ("$.a b", "character 3"),
        ("$.a[", "never closed"),
        ("$['a]", "never closed"),
        ("$[(1]", "never closed"),
        ("$[]", "selector"),
        ("$[a]", "selector"),
        ("$[1,]", "selector"),
        ("$[?]", "selector"),
        ("$['a'b]", "selector"),
    ],
)
def test_jsonpath_is_refused(text: str, what: str) -> None:
    assert what in (jsonpath_problem(text) or "")


@given(st.text(alphabet="$.[]'\"?()*,:@a1 \\", max_size=30))
def test_jsonpath_reads_any_text(text: str) -> None:
    jsonpath_problem("$" + text)
