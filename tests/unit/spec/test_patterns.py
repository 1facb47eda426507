"""Authors' regular expressions: RE2, linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.spec.patterns import PatternError, compile_pattern


def test_found_in_looks_anywhere_and_matches_at_the_whole() -> None:
    pattern = compile_pattern(r"\d+")
    assert pattern.found_in("a 12 b")
    assert not pattern.matches("a 12 b")
    assert pattern.matches("12")


def test_ignore_case_matches_other_letters() -> None:
    assert compile_pattern("größe", ignore_case=True).found_in("GRÖSSE GRÖßE")
    assert not compile_pattern("abc").found_in("ABC")


@pytest.mark.parametrize("text", ["(", "(?=x)", r"(a)\1", "a{1001}", "[z-a]"])
def test_compile_refuses_what_is_not_linear(text: str) -> None:
    with pytest.raises(PatternError, match="not a regular expression"):
        compile_pattern(text)


def test_matching_takes_linear_time() -> None:
    began = time.monotonic()
    assert not compile_pattern("(a+)+$").found_in("a" * 50_000 + "b")
    assert time.monotonic() - began < 2


@given(st.text(), st.text())
def test_any_text_is_a_pattern_or_refused(pattern: str, text: str) -> None:
    try:
        compile_pattern(pattern).found_in(text)
    except PatternError as error:
        assert str(error)
