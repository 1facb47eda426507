"""Merge rules: their meaning, and the laws that make a fold independent of how it is grouped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.spec.state import BUILTIN, RULES, fields_of, fits, merge
from tests.unit.spec.samples import json_values

Json = Any
numbers = st.none() | st.integers(-1000, 1000)
FITTING = {
    "last": json_values,
    "first": json_values,
    "sum": numbers,
    "concat": st.none() | st.integers() | st.lists(st.integers(), max_size=3),
    "merge": st.none() | st.dictionaries(st.text(max_size=2), st.integers(), max_size=3),
    "max": numbers,
    "min": st.none() | st.text(max_size=3),
}


@pytest.mark.parametrize(
    ("rule", "a", "b", "expected"),
    [
        ("last", 1, 2, 2),
        ("last", 1, None, 1),
        ("last", None, 2, 2),
        ("first", 1, 2, 1),
        ("first", None, 2, 2),
        ("sum", 1, 2.5, 3.5),
        ("sum", 1, None, 1),
        ("concat", [1], [2, 3], [1, 2, 3]),
        ("concat", 1, 2, [1, 2]),
        ("concat", None, 2, [2]),
        ("concat", "a", None, ["a"]),
        ("concat", [[1]], [[2]], [[1], [2]]),
        ("merge", {"a": 1, "b": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ("merge", {"a": {"x": 1}}, {"a": {"y": 1}}, {"a": {"y": 1}}),
        ("max", 1, 2, 2),
        ("max", "b", "a", "b"),
        ("min", 1, 2, 1),
    ],
)
def test_merge_follows_its_rule(rule: str, a: Json, b: Json, expected: Json) -> None:
    assert merge(rule, a, b) == expected


@pytest.mark.parametrize("rule", RULES)
@given(data=st.data())
def test_merge_is_associative_and_keeps_what_nothing_is_merged_into(
    rule: str, data: st.DataObject
) -> None:
    a, b, c = (data.draw(FITTING[rule]) for _ in range(3))
    assert _same(merge(rule, merge(rule, a, b), c), merge(rule, a, merge(rule, b, c)))
    if rule != "concat":
        assert _same(merge(rule, a, None), a)
        assert _same(merge(rule, None, a), a)


@pytest.mark.parametrize("rule", RULES)
@given(a=json_values, b=json_values)
def test_merge_is_total_and_changes_neither_argument(rule: str, a: Json, b: Json) -> None:
    before = repr((a, b))
    merge(rule, a, b)
    assert repr((a, b)) == before


@pytest.mark.parametrize(
    ("rule", "value", "fitting"),
    [
        ("sum", "1", False),
        ("sum", True, False),
        ("sum", 1.5, True),
        ("merge", [], False),
        ("max", "a", True),
        ("max", {}, False),
        ("last", {}, True),
        ("concat", 1, True),
        ("sum", None, True),
    ],
)
def test_fits_tells_what_a_rule_can_take(rule: str, value: Json, fitting: bool) -> None:
    assert fits(rule, value) == fitting


def test_fields_of_adds_declared_fields_to_the_builtin_ones() -> None:
    fields = fields_of({"state": {"score": {"type": "number", "default": 1, "merge": "max"}}})
    assert set(BUILTIN) < set(fields)
    score = fields["score"]
    assert (score.type, score.default, score.merge) == ("number", 1, "max")


def test_fields_of_never_retypes_what_the_engine_writes() -> None:
    fields = fields_of({"state": {"cost": {"type": "string"}, "intent": {"type": "int"}}})
    assert (fields["cost"].type, fields["intent"].type) == ("number", "int")


def _same(a: Json, b: Json) -> bool:
    return repr(a) == repr(b)
