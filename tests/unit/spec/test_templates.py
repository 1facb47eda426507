"""``{path}`` in text and ``${...}`` in values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import ExpressionError
from agentflow.spec.templates import (
    Embedded,
    expressions_in,
    look_up,
    paths,
    render,
    resolve_values,
    split_path,
)

Json = Any
VIEW = {
    "user_input": "hi",
    "n": 3,
    "outputs": {"search": {"text": "found", "items": [1, {"a": "é"}]}, "my-node": {"x": 1}},
    "flag": True,
    "nothing": None,
}
DECLARED = {"user_input": "string", "n": "int", "outputs": "object", "flag": "bool"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("say {user_input}!", "say hi!"),
        ("{outputs.search.text}", "found"),
        ("{outputs.search.items}", '[1,{"a":"é"}]'),
        ("{n} {flag} {nothing}", "3 true null"),
        ("{state.user_input}", "hi"),
        ("{absent} {outputs.absent.text}", "{absent} {outputs.absent.text}"),
        ('{"a": {user_input}}', '{"a": hi}'),
        ('{"a": 1, "b": {}}', '{"a": 1, "b": {}}'),
        ("{{user_input}}", "{user_input}"),
        ("{{absent}}", "{absent}"),
        ("{user_input", "{user_input"),
        ("{a b} {1} {a-b} {a.} { user_input }", "{a b} {1} {a-b} {a.} { user_input }"),
        ("${user_input}", "$hi"),
    ],
)
def test_render_inserts_values(text: str, expected: str) -> None:
    assert render(text, VIEW) == expected


def test_render_tells_what_is_missing() -> None:
    missing: list[str] = []
    render("{a.b} {user_input} {c}", VIEW, missing)
    assert missing == ["a.b", "c"]


def test_render_never_reads_inserted_text_as_a_template() -> None:
    assert render("{user_input}", {"user_input": "{secret}", "secret": "x"}) == "{secret}"


@given(st.text())
def test_render_leaves_text_without_placeholders_alone(text: str) -> None:
    if not paths(text) and "{{" not in text:
        assert render(text, VIEW) == text


@given(st.text(alphabet="{}ab._$ ", max_size=30))
def test_render_of_absent_names_changes_only_doubled_braces(text: str) -> None:
    missing: list[str] = []
    rendered = render(text, {}, missing)
    assert [".".join(found.path) for found in paths(text)] == missing
    if "{{" not in text:
        assert rendered == text


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_render_inserts_any_value_as_text_or_json(value: Json) -> None:
    rendered = render("{v}", {"v": value})
    assert rendered == value if isinstance(value, str) else json.loads(rendered) == value


def test_paths_gives_segments_and_offsets() -> None:
    found = paths("a {b.c} {{d}} {e}")
    assert [(place.path, place.offset) for place in found] == [(("b", "c"), 2), (("e",), 14)]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("text_result", ("text_result",)),
        ("outputs.my-node.text", ("outputs", "my-node", "text")),
        ("outputs['a.b'].text", ("outputs", "a.b", "text")),
        ('outputs["x"]', ("outputs", "x")),
    ],
)
def test_split_path_gives_segments(text: str, segments: tuple[str, ...]) -> None:
    assert split_path(text) == segments


def test_look_up_descends_objects_only() -> None:
    assert look_up(VIEW, ("outputs", "search", "text")) == "found"
    assert look_up(VIEW, ("user_input", "x"), "absent") == "absent"
    assert look_up(VIEW, ("state", "n")) == 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${n + 1}", 4),
        ("${outputs.search.items}", [1, {"a": "é"}]),
        ("${outputs['my-node'].x}", 1),
        ("n is ${n}, ${user_input}", "n is 3, hi"),
        ("$${n}", "${n}"),
        ("a $${n} ${n}", "a ${n} 3"),
        ("${{'a': n}}", {"a": 3}),
        ("${'}' + user_input}", "}hi"),
        ("${flag} ${outputs.search.items}", 'true [1,{"a":"é"}]'),
        ({"q": ["${n}", "plain", 7, None]}, {"q": [3, "plain", 7, None]}),
        ("no expression", "no expression"),
    ],
)
def test_resolve_values_evaluates_and_keeps_types(value: Json, expected: Json) -> None:
    assert resolve_values(value, VIEW, DECLARED) == expected


def test_resolve_values_raises_when_an_expression_fails() -> None:
    with pytest.raises(ExpressionError):
        resolve_values(["${outputs.absent}"], VIEW, DECLARED)


def test_expressions_in_refuses_what_is_never_closed() -> None:
    with pytest.raises(ValueError, match="never closed"):
        expressions_in("a ${b")


@given(st.text(alphabet="${}'\"\\ab ", max_size=40))
def test_expressions_in_is_total(text: str) -> None:
    try:
        parts = expressions_in(text)
    except ValueError:
        return
    assert all(isinstance(part, str | Embedded) for part in parts)
    if "${" not in text:
        assert parts == (text,)
