"""What text is accepted, and what is said about the rest."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import SpecInvalid
from agentflow.spec.check import check, check_text, parse
from agentflow.spec.reading import locate

characters = st.text(st.characters(exclude_categories=["Cs"]))
finite = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | characters,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(characters, inner, max_size=4),
    max_leaves=15,
)


@given(finite)
def test_parse_gives_back_any_json_value(value: object) -> None:
    assert parse(json.dumps(value)) == value
    assert parse(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@pytest.mark.parametrize(
    ("text", "code", "says", "line"),
    [
        ("", "E001", "Not valid JSON", 1),
        ('{\n "a": }', "E001", "Not valid JSON", 2),
        ("{'a': 1}", "E001", "Not valid JSON", 1),
        ('{"a": 1} x', "E001", "extra data", 1),
        ("[\n\nNaN]", "E001", "NaN is not a JSON number", 3),
        ("[-Infinity]", "E001", "-Infinity", 1),
        ("[1e999]", "E001", "too large", 1),
        ("[1" + "0" * 5000 + "]", "E001", "64 bits", 1),
        ('{"a":\n "\\ud800"}', "E001", "lone surrogate", 2),
        ('{"\\udfff": 1}', "E001", "lone surrogate", 1),
        ('{"a": 1,\n "b": {"a": 2},\n "a": 3}', "E001", "appears twice", 3),
        ('{"b": {"a": 2,\n "a": 3}}', "E001", "'a' appears twice", 2),
        ("[" * 65 + "]" * 65, "E026", "nested deeper than 64", 1),
        ("[" * 100_000, "E026", "nested deeper than 64", 1),
    ],
)
def test_parse_refuses_with_its_own_sentence(text: str, code: str, says: str, line: int) -> None:
    with pytest.raises(SpecInvalid) as refused:
        parse(text)
    (found,) = refused.value.problems
    assert (found.code, found.line) == (code, line)
    assert says in found.message


def test_parse_accepts_nesting_up_to_the_limit_and_brackets_in_text() -> None:
    assert parse("[" * 64 + "]" * 64)
    assert parse(json.dumps(["[{" * 1000, '"[' * 1000, "\\" * 99])) is not None


def test_parse_refuses_large_documents() -> None:
    with pytest.raises(SpecInvalid) as refused:
        parse('"' + "x" * 5_000_000 + '"')
    assert refused.value.problems[0].code == "E026"


def test_parse_refuses_bytes_that_are_not_utf8() -> None:
    with pytest.raises(SpecInvalid) as refused:
        parse(b'{"a": "\xff"}')
    assert "UTF-8" in refused.value.problems[0].message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b'\xef\xbb\xbf{"a": \xff}', (1, 7)),
        ('{"é":\n "日本'.encode() + b'\xff"}', (2, 5)),
        (b'{"a":\n  ' + b"[" * 65, (2, 66)),
        ('{"日": "\ud800"}', (1, 8)),
        ('{"日": "\\ud800"}', (1, 7)),
        (b'\xef\xbb\xbf{"a" 1}', (1, 6)),
        (b'{\r\n\t"a": nil}', (2, 7)),
    ],
)
def test_parse_says_line_and_column_in_characters(
    text: bytes | str, place: tuple[int, int]
) -> None:
    with pytest.raises(SpecInvalid) as refused:
        parse(text)
    (found,) = refused.value.problems
    assert (found.line, found.column) == place


@pytest.mark.parametrize("before", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_check_text_finds_the_same_place_whatever_ends_the_lines(before: str, end: str) -> None:
    lines = [
        "{",
        '\t"start_node": "日本", "x": "é",',
        '\t"nodes": [{"id": "a", "type": "imput"}]',
        "}",
    ]
    text = before + end.join(lines)
    for spelled in (text, text.encode()):
        found = check_text(spelled).errors
        places = [(each.code, each.line, each.column) for each in found]
        assert places == [("E004", 3, 32), ("E005", 2, 16)]


def test_parse_accepts_a_byte_order_mark() -> None:
    assert parse(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_check_text_reports_what_parse_refuses() -> None:
    assert [found.code for found in check_text("[NaN]").errors] == ["E001"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", 2**70, {1: 2}, (1,), b"x"])
def test_check_refuses_values_that_no_text_could_hold(value: object) -> None:
    assert [found.code for found in check({"a": [value]}).errors] == ["E001"]


def test_check_refuses_deep_values() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert [found.code for found in check(value).errors] == ["E026"]


def test_locate_finds_values_and_the_nearest_place_around_what_is_missing() -> None:
    text = '{"a": [1,\n  {"b/c": "x", "d": [[], 7]}],\n "e": null}'
    places = [("a", 1, "b/c"), ("a", 1, "d", 1), ("e",), ("a", 1, "zzz"), ()]
    found = locate(text, places)
    assert found["/a/1/b~1c"] == (2, 11)
    assert found["/a/1/d/1"] == (2, 26)
    assert found["/e"] == (3, 7)
    assert found["/a/1/zzz"] == (2, 3)
    assert found[""] == (1, 1)
