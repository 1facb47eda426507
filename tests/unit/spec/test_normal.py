"""One spelling for everything, and the hash made from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from agentflow.errors import SpecInvalid
from agentflow.spec.models import content_hash, normalize
from agentflow.spec.normal import canonical
from tests.unit.spec.samples import damaged_documents, triage

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


@pytest.mark.parametrize(
    "metadata",
    [
        {"source": "a", "source_id": "b"},
        {"prompt": "a", "prompt_template": "b"},
        {"model": "a", "config": {"model": "b"}},
        {"source": ["a", "b"], "fallbacks": ["c"]},
    ],
)
def test_normalize_refuses_conflicting_spellings(metadata: Json) -> None:
    with pytest.raises(SpecInvalid) as refused:
        node(metadata)
    assert [found.code for found in refused.value.problems] == ["E003"]


def test_normalize_leaves_the_document_of_the_author_alone() -> None:
    document = {"nodes": [{"id": "a", "type": "llm", "metadata": {"config": {"source_id": "s"}}}]}
    normalize(document)
    assert document["nodes"][0]["metadata"] == {"config": {"source_id": "s"}}


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
