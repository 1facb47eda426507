"""CEL behind its door: types, offsets, names, values, and that nothing gets through."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import ConditionError, ExpressionError
from agentflow.spec.expressions import ExpressionInvalid, compile_expression
from tests.unit.spec.samples import json_values

Json = Any
DECLARED = {
    "text": "string",
    "n": "int",
    "cost": "number",
    "flag": "bool",
    "items": "list",
    "thing": "any",
    "outputs": "object",
    "state": "object",
}


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("thing == 3", {"thing": 3}, True),
        ("thing == 3", {"thing": 3.0}, True),
        ("thing > 2.5", {"thing": 3}, True),
        ("cost > 1", {"cost": 2}, True),
        ("cost > 1", {"cost": 1.5}, True),
        ("n == 3", {"n": 3.0}, True),
        ("thing == null", {"thing": None}, True),
        ("text == 'a'", {}, False),
        ("outputs['my-node'].x > 2", {"outputs": {"my-node": {"x": 3}}}, True),
        ("has(outputs.a) && outputs.a.b", {}, False),
        ("items.exists(i, i.k == 'v')", {"items": [{"k": "v"}]}, True),
        ("items.map(i, i * 2)", {"items": [1, 2]}, [2, 4]),
        ("{'a': thing}", {"thing": [None, {"b": True}]}, {"a": [None, {"b": True}]}),
        ("state.n + 1", {"n": 1}, 2),
        ("text.matches('^[a-z]+$')", {"text": "abc"}, True),
        ("size(text)", {"text": "hé😀"}, 3),
        ("timestamp('2020-01-01T00:00:00Z')", {}, "2020-01-01T00:00:00.000Z"),
        ("duration('90s')", {}, 90.0),
        ("outputs.a", {"outputs": MappingProxyType({"a": (1, 2)})}, [1, 2]),
        ("thing", {"thing": 2**80}, float(2**80)),
    ],
)
def test_evaluate_gives_json(text: str, values: dict[str, Json], expected: Json) -> None:
    assert compile_expression(text, DECLARED).evaluate(values) == expected


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("outputs.absent", {}),
        ("1 / 0 == 1", {}),
        ("thing + 1", {"thing": "x"}),
        ("{1: 2}", {}),
        ("type(1)", {}),
        ("0.0 / 0.0", {}),
        ("thing", {"thing": "\ud800"}),
        ("outputs.a", {"outputs": {"a": "b", "c": "d\x00e"}}),
        ("items.map(a, items.map(b, items.map(c, items.map(d, 1))))", {"items": list(range(100))}),
    ],
)
def test_evaluate_raises_what_the_caller_chose(text: str, values: dict[str, Json]) -> None:
    expression = compile_expression(text, DECLARED)
    with pytest.raises(ExpressionError):
        expression.evaluate(values)
    with pytest.raises(ConditionError):
        expression.evaluate(values, ConditionError)


@pytest.mark.parametrize(("value", "gave"), [(None, "null"), (3, "a number"), ({}, "an object")])
def test_test_raises_when_a_condition_is_not_boolean(value: Json, gave: str) -> None:
    with pytest.raises(ConditionError, match=gave):
        compile_expression("thing", DECLARED).test({"thing": value})


def test_test_gives_the_truth() -> None:
    assert compile_expression("flag", DECLARED).test({"flag": True}) is True


@pytest.mark.parametrize(
    ("text", "offset", "undeclared"),
    [
        ("nope == 1", 0, "nope"),
        ("text == nope.x", 12, "nope.x"),
        ("text ==\n  nope", 10, "nope"),
        ("text + 1", 5, None),
        ("1 +", 3, None),
        ("", 0, None),
        ("n > 2.5", 2, None),
        ("\ud800", 0, None),
        ("(" * 40 + "1" + ")" * 40, 0, None),
        ("n" + " + n" * 3000, 0, None),
        ("x" * 20_001, 0, None),
    ],
)
def test_compile_refuses_with_the_offset(text: str, offset: int, undeclared: str | None) -> None:
    with pytest.raises(ExpressionInvalid) as refused:
        compile_expression(text, DECLARED)
    assert refused.value.offset == offset
    assert refused.value.undeclared == undeclared
    assert refused.value.message


@pytest.mark.parametrize(
    ("text", "returns"),
    [("n > 1", "bool"), ("n", "int"), ("thing.x", "any"), ("text", "string"), ("[1]", "list"),
     ("{'a': 1}", "object"), ("1.5", "number")],
)  # fmt: skip
def test_compile_knows_the_type(text: str, returns: str) -> None:
    assert compile_expression(text, DECLARED).returns == returns


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("outputs.a.text == text", [("outputs", "a", "text"), ("text",)]),
        ("outputs['my-node'].x > n", [("outputs", "my-node", "x"), ("n",)]),
        ("has(outputs.a.b)", [("outputs", "a", "b")]),
        ("outputs[text] == 1", [("outputs",), ("text",)]),
        ("items.exists(text, text == 'x')", [("items",)]),
        ("items.map(i, outputs[i])", [("items",), ("outputs",)]),
        ("state.n > 1 || state['cost'] > 2", [("state", "n"), ("state", "cost")]),
        ("flag ? n : size(items)", [("flag",), ("n",), ("items",)]),
        ("items[0].x == {'k': thing}.k", [("items",), ("thing",)]),
        ("'outputs.a'", []),
    ],
)
def test_names_gives_the_paths_an_expression_reads(text: str, paths: list[tuple[str, ...]]) -> None:
    assert [found.path for found in compile_expression(text, DECLARED).names()] == paths


def test_compile_keeps_what_it_compiled() -> None:
    assert compile_expression("n > 41", DECLARED) is compile_expression("n > 41", DECLARED)


@given(st.text(alphabet="abn.()[]{}'\"&|!=<>+-*/?:, 0123456789\n", max_size=40) | st.text())
def test_compile_gives_an_expression_or_a_reason_for_any_text(text: str) -> None:
    try:
        expression = compile_expression(text, DECLARED)
        expression.evaluate({"n": 1, "thing": {"a": [1]}})
    except ExpressionInvalid as error:
        assert 0 <= error.offset <= len(text)
    except ExpressionError as error:
        assert error.message


@given(json_values)
def test_evaluate_gives_back_any_value_it_can_hold(value: Json) -> None:
    expression = compile_expression("thing", DECLARED)
    try:
        assert expression.evaluate({"thing": value}) == value
    except ExpressionError as error:
        assert "JSON cannot hold" in error.message or "NUL" in error.message


def test_object_comes_back_in_the_order_of_its_keys():
    value = compile_expression("{'b': 1, 'a': {'d': x, 'c': 2}}", {"x": "any"}).evaluate({"x": 3})
    assert json.dumps(value) == '{"a": {"c": 2, "d": 3}, "b": 1}'
