"""One spelling for everything, and the hash made from it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import SpecInvalid
from agentflow.spec.check import check_text
from agentflow.spec.models import content_hash, normalize
from agentflow.spec.normal import LAYOUT, SPELLINGS, VALUES, canonical
from tests.unit.spec.samples import damaged_documents, json_values, triage

Json = Any


def node(metadata: Json, node_type: str = "llm") -> Json:
    normal = normalize({"nodes": [{"id": "n", "type": node_type, "metadata": metadata}]})
    return normal["nodes"][0]


@pytest.mark.parametrize(
    ("written", "canonical_form"),
    [
        ({"source_id": "s"}, {"source": "s"}),
        ({"source": "s", "source_id": "s"}, {"source": "s"}),
        ({"source": None, "source_id": "s"}, {"source": "s"}),
        ({"source": "s", "fallbacks": ["t", "u"]}, {"source": ["s", "t", "u"]}),
        ({"source_id": "s", "fallbacks": ["t"]}, {"source": ["s", "t"]}),
        ({"model_name": "m"}, {"model": "m"}),
        ({"prompt_template": "p"}, {"prompt": "p"}),
        ({"config": {"source_id": "s", "model_name": "m"}}, {"source": "s", "model": "m"}),
        ({"config": {"a": 1}, "a": 1}, {"a": 1}),
        (None, {}),
    ],
)
def test_normalize_spells_options_one_way(written: Json, canonical_form: Json) -> None:
    assert node(written).get("metadata", {}) == canonical_form


def test_normalize_spells_validation_one_way_for_input_only() -> None:
    assert node({"validation": {"required": True}}, "input")["metadata"] == {
        "validate": {"required": True}
    }
    assert node({"validation": 1}, "llm")["metadata"] == {"validation": 1}


def test_normalize_spells_the_other_parts_one_way() -> None:
    normal = normalize(
        {
            "nodes": [{"id": "a", "type": "api"}],
            "edges": [{"from_node": "a", "to": "b", "default": True}],
            "queues": [
                {"id": "q", "subqueues": [], "bandwidth": {"tokens_per_minute": 5}},
            ],
            "sources": [
                {"id": "s", "kind": "http", "config": {"model_name": "m"}},
                {"id": "d", "kind": "db", "config": {"connection_string_env": "DSN"}},
                {"id": "g", "kind": "llm", "config": {"provider": "google"}},
            ],
        }
    )
    assert normal["nodes"][0]["type"] == "http"
    assert normal["edges"] == [{"from": "a", "to": "b", "condition": "else"}]
    assert normal["queues"][0]["bandwidth"] == {"max_tokens_per_minute": 5}
    assert "sub_queues" in normal["queues"][0]
    assert normal["sources"][0] == {"id": "s", "kind": "api", "config": {"model": "m"}}
    assert normal["sources"][1]["config"] == {"dsn_env": "DSN"}
    assert normal["sources"][2]["config"] == {"provider": "gemini"}


ELEMENTS: dict[str, Json] = {
    "options": ("nodes", {"id": "e", "type": "llm"}, ("metadata",)),
    "options of input": ("nodes", {"id": "e", "type": "input"}, ("metadata",)),
    "options of http": ("nodes", {"id": "e", "type": "http"}, ("metadata",)),
    "edge": ("edges", {"id": "e"}, ()),
    "queue": ("queues", {"id": "e"}, ()),
    "bandwidth": ("queues", {"id": "e"}, ("bandwidth",)),
    "config": ("sources", {"id": "e", "kind": "llm"}, ("config",)),
}
"""Where a spelling is accepted -> its list, an element of it, and the place inside the element."""


def written(where: str, **members: Json) -> Json:
    name, element, place = ELEMENTS[where]
    inner: Json = members
    for part in reversed(place):
        inner = {part: inner}
    return {name: [{**element, **inner}]}


EVERY_SPELLING = [(where, other, name) for where in SPELLINGS for other, name in SPELLINGS[where]]


@pytest.mark.parametrize(("where", "other", "name"), EVERY_SPELLING)
def test_every_accepted_spelling_maps_to_its_canonical_one(
    where: str, other: str, name: str
) -> None:
    assert normalize(written(where, **{other: "v"})) == normalize(written(where, **{name: "v"}))
    both = written(where, **{other: "v", name: "v"})
    assert normalize(both) == normalize(written(where, **{name: "v"}))


@pytest.mark.parametrize(("where", "other", "name"), EVERY_SPELLING)
def test_conflicting_spellings_are_reported_at_the_accepted_one(
    where: str, other: str, name: str
) -> None:
    (found,) = canonical(written(where, **{other: "a", name: "b"})).conflicts
    list_name, _, place = ELEMENTS[where]
    assert found.code == "E003"
    assert found.path == "/" + "/".join((list_name, "0", *place, other))
    assert found.node_id == "e"
    assert repr(name) in (found.hint or "")


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"model": "a", "config": {"model": "b"}}, "/config/model"),
        ({"model": "a", "config": {"model_name": "b"}}, "/config/model_name"),
        ({"source": ["a", "b"], "fallbacks": ["c"]}, "/fallbacks"),
        ({"config": {"source": ["a", "b"], "fallbacks": ["c"]}}, "/config/fallbacks"),
        ({"source": "a", "fallbacks": "b"}, "/fallbacks"),
    ],
)
def test_conflicting_options_are_reported_where_the_author_wrote_them(
    document: Json, path: str
) -> None:
    with pytest.raises(SpecInvalid) as refused:
        node(document)
    (found,) = refused.value.problems
    assert (found.code, found.path) == ("E003", f"/nodes/0/metadata{path}")


@pytest.mark.parametrize(
    ("where", "document"),
    [
        ("node type", {"nodes": [{"id": "e", "type": "api"}]}),
        ("source kind", {"sources": [{"id": "e", "kind": "http"}]}),
        ("provider", {"sources": [{"id": "e", "kind": "llm", "config": {"provider": "google"}}]}),
    ],
)
def test_every_accepted_value_maps_to_its_canonical_one(where: str, document: Json) -> None:
    other, name = VALUES[where]
    assert json.loads(json.dumps(document).replace(f'"{other}"', f'"{name}"')) == _plain(
        normalize(document)
    )


def _plain(document: Json) -> Json:
    """Without the empty metadata that normalising adds."""
    return {
        name: [{k: v for k, v in each.items() if v != {}} for each in items]
        for name, items in document.items()
    }


def test_limits_of_a_source_are_spelled_like_those_of_a_queue() -> None:
    config = {"limits": {"tokens_per_minute": 5}}
    normal = normalize({"sources": [{"id": "s", "kind": "llm", "config": config}]})
    assert normal["sources"][0]["config"]["limits"] == {"max_tokens_per_minute": 5}


def test_options_inside_config_move_out_however_deep_they_are() -> None:
    assert node({"config": {"config": {"model_name": "m"}, "a": 1}})["metadata"] == {
        "a": 1,
        "model": "m",
    }


def test_normalize_leaves_the_document_of_the_author_alone() -> None:
    document = {"nodes": [{"id": "a", "type": "llm", "metadata": {"config": {"source_id": "s"}}}]}
    normalize(document)
    assert document["nodes"][0]["metadata"] == {"config": {"source_id": "s"}}


@given(damaged_documents() | json_values)
def test_canonical_leaves_what_the_author_wrote_as_it_was(document: Json) -> None:
    before = json.dumps(document)
    kept = copy.deepcopy(document)
    canonical(document)
    assert json.dumps(document) == before  # the order of keys too
    assert repr(document) == repr(kept)


@given(
    st.dictionaries(st.sampled_from(sorted(LAYOUT)), json_values, max_size=4),
    st.sampled_from(["document", "nodes", "edges", "queues", "sub_queues", "sources"]),
)
def test_layout_does_not_change_the_content_hash(drawn: Json, where: str) -> None:
    queue = {"id": "q", "from": "ask", "to": "route", "sub_queues": [{"id": "s", "weight": 1}]}
    plain = triage(queues=[queue])
    moved = copy.deepcopy(plain)
    holder = moved["queues"][0] if where == "sub_queues" else moved
    element = holder if where == "document" else holder[where][0]
    element |= {key: value for key, value in drawn.items() if key not in element}
    finite = json.loads(json.dumps(moved).replace("NaN", "0").replace("Infinity", "0"))
    assert content_hash(normalize(finite)) == content_hash(normalize(plain))


def test_normalized_form_keeps_what_it_does_not_know() -> None:
    written = {"start_node": "a", "x": None, "nodes": [{"id": "a", "type": "input", "y": None}]}
    checked = check_text(json.dumps(written))
    assert checked.normalized is not None
    assert checked.normalized["x"] is None
    assert checked.normalized["nodes"][0]["y"] is None


@given(damaged_documents())
def test_canonical_form_is_its_own_canonical_form(document: Json) -> None:
    once = canonical(document)
    if not once.conflicts:
        assert canonical(once.document).document == once.document


def test_content_hash_ignores_layout_spelling_nulls_and_the_order_of_keys() -> None:
    plain = content_hash(normalize(triage()))
    drawn = triage(viewport={"x": 1})
    drawn["nodes"][0] = {"y": 2.5, "x": 1, "colour": "red", **drawn["nodes"][0], "metadata": None}
    drawn["nodes"][2]["metadata"] = {"prompt_template": "{user_input}", "source_id": "small"}
    drawn["edges"][0] = {"to": "route", "from_node": "ask", "style": {}, "condition": None}
    drawn["description"] = None
    assert content_hash(normalize(drawn)) == plain


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"description": "d"},
        {"extra": 1},
        {"metadata": {"x": 1}},
        {"settings": {}},
    ],
)
def test_content_hash_tells_other_changes(change: Json) -> None:
    assert content_hash(normalize(triage(**change))) != content_hash(normalize(triage()))


def test_content_hash_takes_whole_floats_for_integers() -> None:
    one = content_hash(normalize(triage(settings={"timeout_s": 10})))
    assert content_hash(normalize(triage(settings={"timeout_s": 10.0}))) == one
    assert content_hash(normalize(triage(settings={"timeout_s": 10.5}))) != one
