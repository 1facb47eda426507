"""Router nodes."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.errors import ConditionError, NotSupported
from agentflow.nodes.router import RouterNode
from tests.unit.nodes.conftest import NewContext

ROUTES = [
    {"intent": "refund", "keywords": ["money back", "refund"]},
    {"intent": "greeting", "keywords": ["Hi", "straße"]},
]


def intent(new_context: NewContext, text: Any, **options: Any) -> str:
    result = RouterNode().run_inline(new_context("router", options, {"user_input": text}))
    assert result.delta == {"intent": result.result["intent"]}
    return str(result.result["intent"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I want my MONEY  back!", "refund"),
        ("refund, please", "refund"),
        ("refunded", "unknown"),
        ("this", "unknown"),
        ("hi there, refund", "refund"),
        ("STRASSE", "greeting"),
        ("", "unknown"),
        (None, "unknown"),
        (["refund"], "refund"),
    ],
)
def test_keywords_match_whole_words_and_the_first_route_wins(
    new_context: NewContext, text: Any, expected: str
) -> None:
    assert intent(new_context, text, routes=ROUTES) == expected


def test_result_says_what_was_done(new_context: NewContext) -> None:
    options = {"routes": ROUTES, "default_intent": "other", "output_key": "kind"}
    result = RouterNode().run_inline(new_context("router", options, {"user_input": "xyz"}))
    assert result.result == {"intent": "other", "matched": False, "strategy": "keyword"}
    assert result.delta == {"kind": "other"}


def test_patterns_ignore_case(new_context: NewContext) -> None:
    routes = [{"intent": "order", "pattern": r"order\s+#\d+"}]
    assert intent(new_context, "ORDER #12", strategy="pattern", routes=routes) == "order"
    assert intent(new_context, "order", strategy="pattern", routes=routes) == "unknown"


def test_hostile_pattern_ends_at_once(new_context: NewContext) -> None:
    routes = [{"intent": "x", "pattern": "(a+)+$"}]
    assert intent(new_context, "a" * 5000 + "b", strategy="pattern", routes=routes) == "unknown"


@pytest.mark.parametrize(
    ("condition", "text", "matches"),
    [
        ("contains('Bill')", "my bill", True),
        ("starts_with('my')", "My bill", True),
        ('ends_with("bill")', "my bill?", False),
        ("equals('my bill')", "MY BILL", True),
        ("length_gt(3)", "abcd", True),
        ("length_lt(3)", "abc", False),
        ("user_input.contains('x') && size(user_input) > 2", "axb", True),
        ("user_input.startsWith('x')", "axb", False),
    ],
)
def test_rules_are_words_or_expressions(
    new_context: NewContext, condition: str, text: str, matches: bool
) -> None:
    routes = [{"intent": "yes", "condition": condition}]
    found = intent(new_context, text, strategy="rules", routes=routes)
    assert found == ("yes" if matches else "unknown")


def test_failing_rule_is_a_condition_error(new_context: NewContext) -> None:
    routes = [{"intent": "yes", "condition": "outputs.gone.x == 1"}]
    with pytest.raises(ConditionError):
        intent(new_context, "x", strategy="rules", routes=routes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Draw me a picture", "image"),
        ("img: a cat", "image"),
        ("query the database", "database"),
        ("tell me a joke", "text"),
    ],
)
def test_default_strategy_knows_three_classes(
    new_context: NewContext, text: str, expected: str
) -> None:
    assert intent(new_context, text) == expected


@pytest.mark.parametrize(
    "options", [{"source": "m"}, {"strategy": "llm"}, {"strategy": "classifier"}]
)
def test_strategies_of_later_versions_say_so(
    new_context: NewContext, options: dict[str, Any]
) -> None:
    with pytest.raises(NotSupported):
        intent(new_context, "x", **options)
