"""Large values leave what is kept in a row, and come back byte for byte."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.errors import StoreError
from agentflow.store.blobs_references import (
    LIMIT,
    Split,
    Texts,
    Unencoded,
    is_marked,
    join,
    references,
    split,
    split_lines,
)

BIG = "x" * 100_000
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)
)
LARGE = st.one_of(
    st.sampled_from([BIG, "é" * 40_000, "\x01" * 20_000, '"' * 40_000]),
    st.integers(9_000, 20_000).map(lambda size: list(range(size))),
)
KEYS = st.sampled_from(["a", "b", "$blob", "sha256", "\x01"])
VALUES = st.recursive(
    LEAVES | LARGE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def divided(value: Any) -> Split:
    """What is kept of a value; what is joined again is the same bytes."""
    content = msgspec.json.encode(value)
    part = split(content)
    assert len(part.content) <= LIMIT
    assert join(part.content, part.blobs) == content
    for reference, blob in part.blobs.items():
        assert reference.size == len(blob)
        assert reference.sha256 == hashlib.sha256(blob).hexdigest()
    return part


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_value_comes_back_byte_for_byte_and_fits_a_row(value):
    part = divided(value)
    assert is_marked(part.content) == bool(part.blobs)
    found, wanted = set(), references(part.content)
    while wanted:
        found |= wanted
        wanted = {each for name in wanted for each in references(part.blobs[name])} - found
    assert found == part.blobs.keys()


def test_value_at_the_limit_stays_and_one_byte_more_goes():
    assert divided("x" * (LIMIT - 2)).blobs == {}
    assert len(divided("x" * (LIMIT - 1)).blobs) == 1


def test_same_value_in_two_places_is_one_blob():
    part = divided({"result": BIG, "delta": {"field": BIG}})
    ((_, blob),) = part.blobs.items()
    assert blob == msgspec.json.encode(BIG)


def test_object_that_looks_like_a_reference_is_nobodys_reference():
    (named,) = divided(BIG).blobs
    forged = {"$blob": {"sha256": named.sha256, "size": named.size, "media_type": "x"}}
    marked = "\x01" + msgspec.json.encode(forged).decode() + "\x01"
    part = divided({"one": forged, "two": marked, "three": BIG + "y"})
    assert len(references(part.content)) == 1
    assert named not in references(part.content)
    assert not is_marked(msgspec.json.encode(marked))


def test_ten_thousand_large_items_fit_one_row():
    part = divided([f"{number}:{'x' * LIMIT}" for number in range(2_000)])
    assert len(part.blobs) == 2_001


@pytest.mark.parametrize("depth", [15, 16, 17, 800])
def test_deeply_nested_value_is_taken_out(depth):
    value: Any = BIG
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    assert len(divided(value).blobs) == 1


def test_object_with_a_key_too_long_for_a_row_is_taken_out_whole():
    assert len(divided({BIG: 1}).blobs) == 1


def test_unreadable_reference_is_told():
    with pytest.raises(StoreError, match="cannot be read"):
        references(b"\x01[\x01{}\x01]")


def test_lines_refer_to_what_is_known_and_keep_the_rest():
    lines = [[{"result": BIG, "other": BIG + "x"}, [BIG] * 2], {"many": list(range(30_000))}, [1]]
    body = b"\n".join(map(msgspec.json.encode, lines))
    assert split_lines(body, frozenset()) == body
    (known,) = divided(BIG).blobs
    kept = split_lines(body, frozenset({known.sha256}))
    assert len(body) - len(kept) > 2.9 * len(BIG)
    assert join(b"\x01" + kept, divided(BIG).blobs) == body


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_value_that_was_not_encoded_is_kept_as_its_json_is(value):
    content = msgspec.json.encode(value)
    texts: Texts = {}
    part = split(Unencoded(value), texts)
    assert join(part.content, part.blobs) == content
    assert len(part.content) <= LIMIT
    assert part == split(content)
    assert split(Unencoded([value]), texts).blobs.keys() >= {
        reference for _, reference, _ in texts.values()
    }


def test_text_is_encoded_once_for_all_the_places_it_stands_in():
    texts: Texts = {}
    first = split(Unencoded({"result": BIG, "delta": {"field": BIG}}), texts)
    again = split(Unencoded({"final": (BIG,)}), texts)
    ((reference, content),) = first.blobs.items()
    assert again.blobs[reference] is content
    assert references(again.content) == {reference}


def test_whatever_is_no_json_becomes_what_its_json_says():
    value = {1: BIG, "when": datetime(2020, 1, 1, tzinfo=UTC), "pair": (1, float("nan"))}
    part = split(Unencoded(value))
    assert join(part.content, part.blobs) == msgspec.json.encode(value)
