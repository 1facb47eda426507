"""What plain gives back is what JSON would, of whatever size; and what JSON does not know is refused."""

from __future__ import annotations

import math
from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.engine.plain import SMALL, plain

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(), inner, max_size=9),
    max_leaves=2 * SMALL,
)


@given(VALUES)
def test_plain_is_what_json_gives_back(value):
    try:
        expected = msgspec.json.decode(msgspec.json.encode(value), strict=True)
    except (ValueError, OverflowError):
        return
    if expected == value:
        assert plain(value) == value
        assert repr(plain(value)) == repr(expected)


def test_plain_shares_nothing_that_can_change_with_its_value():
    value = {"list": [1, {"deep": []}], "text": "x"}
    copy = plain(value)
    value["list"][1]["deep"].append(2)
    assert copy == {"list": [1, {"deep": []}], "text": "x"}


def endless():
    value = []
    value.append(value)
    return value


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        {"a": {1, 2}},
        "\ud800",
        {"\ud800": 1},
        [["x"] * (2 * SMALL), "\udfff"],
        endless(),
        deep(),
        object(),
    ],
    ids=["nan", "infinity", "set", "text", "key", "long", "endless", "deep", "object"],
)
def test_plain_refuses_what_json_does_not_know(value):
    with pytest.raises(ValueError):
        plain(value)


def test_plain_makes_of_dates_and_tuples_what_json_does_or_refuses_them():
    assert plain({"a": (1, 2)}) == {"a": [1, 2]}
    with pytest.raises(ValueError):
        plain([date(2026, 1, 1)])
