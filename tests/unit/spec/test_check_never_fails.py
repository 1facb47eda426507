"""Nothing that a caller can send makes the check raise."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.errors import SpecInvalid
from agentflow.plan.compile import compile_plan
from agentflow.spec.check import check, check_text, parse
from tests.soak import cases
from tests.unit.spec.samples import damaged_documents, json_values

quick = settings(
    max_examples=cases(150), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@quick
@given(json_values)
def test_check_answers_for_any_json_value(document: object) -> None:
    checked = check(document)
    assert checked.valid == (not checked.errors)
    assert (checked.normalized is None) == bool(checked.errors)


@quick
@given(damaged_documents())
def test_check_answers_for_damaged_documents_and_compiles_the_valid_ones(document: object) -> None:
    checked = check(document)
    if checked.normalized is not None:
        plan = compile_plan(checked.normalized)
        assert sorted(plan.order) == list(range(len(plan.nodes)))
    for found in (*checked.errors, *checked.warnings):
        assert found.message
        assert json.dumps(found.to_json())


@quick
@given(damaged_documents())
def test_check_gives_the_same_codes_for_the_text_of_a_document(document: object) -> None:
    text = json.dumps(document)
    try:
        parse(text)
    except SpecInvalid:
        return
    codes = [found.code for found in check(document).errors]
    located = check_text(text)
    assert [found.code for found in located.errors] == codes
    assert all(found.line and found.column for found in located.errors)


@settings(max_examples=cases(300), deadline=None)
@given(st.text() | st.binary() | st.text(alphabet='{}[]",:\\ 0123456789.eE-tfnu\n', max_size=60))
def test_parse_gives_a_value_or_a_problem_for_any_text(text: str | bytes) -> None:
    try:
        parse(text)
    except SpecInvalid as error:
        assert error.problems[0].code in ("E001", "E026")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, '"' + "\\" * 99_999, '"[[[[' * 50_000, "\x00", "﻿{}"],
)
def test_parse_survives_hostile_text(text: str) -> None:
    try:
        parse(text)
    except SpecInvalid as error:
        assert error.problems[0].code in ("E001", "E026")
