"""Input nodes."""

from __future__ import annotations

import timeit
from typing import Any

import pytest

from agentflow.errors import InvalidInput
from agentflow.nodes.input import InputNode
from agentflow.spec.kinds.input import KIND
from agentflow.spec.rules.options import options_of
from tests.unit.nodes.conftest import NewContext


def test_input_without_options_changes_nothing(new_context: NewContext) -> None:
    result = InputNode().run_inline(new_context("input", {}, {"user_input": " Hi "}))
    assert result.result == " Hi " and result.delta == {}


@pytest.mark.parametrize(
    ("transform", "expected"),
    [("lowercase", " hi "), ("uppercase", " HI "), ("trim", "Hi"), (["strip", "uppercase"], "HI")],
)
def test_input_transforms_in_order(new_context: NewContext, transform: Any, expected: str) -> None:
    context = new_context("input", {"transform": transform}, {"user_input": " Hi "})
    result = InputNode().run_inline(context)
    assert result.result == expected and result.delta == {"user_input": expected}


def test_input_writes_under_another_name(new_context: NewContext) -> None:
    options = {"input_key": "order.id", "output_key": "number"}
    result = InputNode().run_inline(new_context("input", options, {"order": {"id": 7}}))
    assert result.delta == {"number": 7}


@pytest.mark.parametrize("value", [None, ""])
def test_input_names_a_missing_required_value(new_context: NewContext, value: Any) -> None:
    context = new_context("input", {"validate": {"required": True}}, {"user_input": value})
    with pytest.raises(InvalidInput, match="'user_input' is required"):
        InputNode().run_inline(context)


def test_input_that_is_all_spaces_is_missing_after_trim(new_context: NewContext) -> None:
    options = {"transform": "trim", "validate": {"required": True}}
    with pytest.raises(InvalidInput, match="required"):
        InputNode().run_inline(new_context("input", options, {"user_input": "   "}))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"min_length": 4}, "3 characters; min_length is 4"),
        ({"max_length": 2}, "3 characters; max_length is 2"),
        ({"pattern": "^[0-9]+$"}, "does not match the pattern"),
    ],
)
def test_input_says_which_rule_is_not_met(
    new_context: NewContext, rules: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        InputNode().run_inline(new_context("input", {"validate": rules}, {"user_input": "abc"}))


def test_input_rules_for_text_refuse_other_values(new_context: NewContext) -> None:
    for options in ({"validate": {"min_length": 1}}, {"transform": "trim"}):
        with pytest.raises(InvalidInput, match="must be text"):
            InputNode().run_inline(new_context("input", options, {"user_input": [1]}))


def test_input_absent_and_not_required_passes(new_context: NewContext) -> None:
    options = {"validate": {"min_length": 3, "pattern": "a"}, "transform": "trim"}
    assert InputNode().run_inline(new_context("input", options, {})).delta == {}


def test_input_checks_structured_values(new_context: NewContext) -> None:
    schema = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
    options = {"input_key": "order", "schema": schema}
    assert InputNode().run_inline(new_context("input", options, {"order": {"id": 1}})).result
    with pytest.raises(InvalidInput, match="'order' does not fit its schema"):
        InputNode().run_inline(new_context("input", options, {"order": {"id": "x"}}))


def test_input_rules_without_a_transform_write_nothing(new_context: NewContext) -> None:
    options = {"input_key": "state.ticket", "validate": {"min_length": 1}}
    context = new_context("input", options, {"ticket": "T-1"})
    done = InputNode().run_inline(context)
    assert done.result == "T-1" and done.delta == {}


def test_input_writes_the_field_that_a_path_names(new_context: NewContext) -> None:
    options = {"input_key": "state.ticket", "transform": "uppercase"}
    done = InputNode().run_inline(new_context("input", options, {"ticket": "t-1"}))
    assert done.delta == {"ticket": "T-1"}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, None),
        ({"schema": {"type": "string"}}, None),
        ({"transform": "trim"}, "user_input"),
        ({"output_key": "user_input"}, "user_input"),
        ({"input_key": "ticket"}, "ticket"),
        ({"input_key": "state.ticket"}, "ticket"),
        ({"input_key": "order.id"}, None),
        ({"input_key": "order.id", "output_key": "number"}, "number"),
    ],
)
def test_input_declares_the_field_it_takes_in(options: dict[str, Any], field: str | None) -> None:
    assert KIND.main_field(options_of(KIND, options)) == field


def test_input_that_changes_a_part_of_a_field_must_say_where_it_goes() -> None:
    [(at, sentence)] = KIND.complaints(
        options_of(KIND, {"input_key": "order.id", "transform": "trim"})
    )
    assert at == ("output_key",) and "'order.id' is a part of a field" in sentence


def test_input_takes_less_than_a_millisecond(new_context: NewContext) -> None:
    options = {
        "transform": ["trim", "lowercase"],
        "validate": {"required": True, "max_length": 10_000, "pattern": "[a-z]+"},
        "schema": {"type": "string", "minLength": 1},
    }
    context = new_context("input", options, {"user_input": " Some words " * 200})
    node = InputNode()
    assert min(timeit.repeat(lambda: node.run_inline(context), number=10, repeat=5)) < 0.01
