"""Aggregator nodes."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.errors import ExpressionError, InvalidInput
from agentflow.nodes.aggregator import AggregatorNode
from agentflow.spec.kinds.aggregator import KIND
from agentflow.spec.rules.options import options_of
from tests.unit.nodes.conftest import NewContext

VIEW = {
    "text_result": "hello",
    "image_result": None,
    "db_result": [],
    "intent": "",
    "outputs": {
        "a": {"text": "yes", "score": 0.5},
        "b": {"text": "no"},
        "c": {"text": "yes\n"},
    },
    "tokens_used": 12,
    "cost": 0.5,
    "execution_path": ["a", "b"],
}
TEXTS = ["outputs.a.text", "outputs.b.text", "outputs.c.text"]


def joined(new_context: NewContext, view: dict[str, Any] | None = None, **options: Any) -> Any:
    context = new_context("aggregator", options, VIEW if view is None else view)
    result = AggregatorNode().run_inline(context)
    assert result.delta == {options.get("output_key", "final_output"): result.result}
    return result.result


def test_merge_leaves_out_what_is_missing(new_context: NewContext) -> None:
    assert joined(new_context) == {"text": "hello"}
    assert joined(new_context, {"db_result": [{"n": 1}], "image_result": {"url": "u"}}) == {
        "image": {"url": "u"},
        "data": [{"n": 1}],
    }


def test_merge_names_other_keys_by_their_last_segment(new_context: NewContext) -> None:
    keys = ["outputs.a.score", "text_result", "outputs.gone.x", "intent"]
    assert joined(new_context, source_keys=keys) == {"score": 0.5, "text": "hello"}


def test_merge_keeps_results_whose_last_segments_are_the_same(new_context: NewContext) -> None:
    keys = ["outputs.a.text", "outputs.b.text"]
    assert joined(new_context, source_keys=keys) == {"a.text": "yes", "b.text": "no"}


def test_empty_result_of_a_node_is_a_result(new_context: NewContext) -> None:
    view = {"outputs": {"q": [], "n": 0}}
    assert joined(new_context, view, source_keys=["outputs.q", "outputs.n"]) == {"q": [], "n": 0}


def test_required_results_are_named_when_missing(new_context: NewContext) -> None:
    with pytest.raises(InvalidInput, match=r"outputs\.gone, db_result"):
        joined(new_context, required=["outputs.gone", "text_result", "db_result"])


def test_priority_takes_the_first_present(new_context: NewContext) -> None:
    order = ["image_result", "outputs.b.text", "text_result"]
    assert joined(new_context, strategy="priority", priority_order=order) == "no"
    assert joined(new_context, strategy="priority") == "hello"
    assert joined(new_context, {}, strategy="priority") is None


def test_template_is_filled(new_context: NewContext) -> None:
    template = "{text_result}: {outputs.a.score}"
    assert joined(new_context, strategy="template", template=template) == "hello: 0.5"


def test_concat_joins_texts(new_context: NewContext) -> None:
    keys = ["text_result", "outputs.b", "image_result"]
    assert joined(new_context, strategy="concat", source_keys=keys) == 'hello\n\n{"text":"no"}'
    assert (
        joined(new_context, strategy="concat", source_keys=TEXTS, separator="|") == "yes|no|yes\n"
    )


def test_select_takes_a_path_or_an_expression(new_context: NewContext) -> None:
    assert joined(new_context, strategy="select", select_key="outputs.a.score") == 0.5
    expression = "outputs.a.score > 0.4 ? outputs.a.text : 'none'"
    assert joined(new_context, strategy="select", select_key=expression) == "yes"


def test_custom_evaluates_an_expression(new_context: NewContext) -> None:
    assert joined(new_context, strategy="custom", expression="{'n': size(text_result)}") == {"n": 5}
    with pytest.raises(ExpressionError):
        joined(new_context, strategy="custom", expression="outputs.gone.text")


def test_vote_takes_the_majority(new_context: NewContext) -> None:
    assert joined(new_context, strategy="vote", source_keys=TEXTS) == "yes"


def test_vote_without_enough_votes_fails(new_context: NewContext) -> None:
    with pytest.raises(InvalidInput, match="3 votes"):
        joined(new_context, strategy="vote", source_keys=TEXTS, min_votes=3)
    with pytest.raises(InvalidInput, match="nothing to vote on"):
        joined(new_context, {}, strategy="vote", source_keys=TEXTS)


def test_vote_gives_ties_to_the_earlier_in_canonical_order(new_context: NewContext) -> None:
    keys = ["outputs.b.text", "outputs.a.text"]
    assert joined(new_context, strategy="vote", source_keys=keys, min_votes=1) == "yes"
    turned = {"outputs": {"b": {"text": "no"}, "a": {"text": "yes"}}}
    assert joined(new_context, turned, strategy="vote", source_keys=keys, min_votes=1) == "no"


def test_vote_among_fields_gives_ties_to_the_one_that_is_named_first(
    new_context: NewContext,
) -> None:
    keys = ["outputs.b.text", "text_result"]
    assert joined(new_context, strategy="vote", source_keys=keys, min_votes=1) == "no"


def test_vote_counts_only_the_votes_that_were_given(new_context: NewContext) -> None:
    keys = ["outputs.gone.text", "outputs.a.text", "outputs.c.text", "image_result"]
    assert joined(new_context, strategy="vote", source_keys=keys) == "yes"


def test_state_in_front_of_a_path_changes_nothing(new_context: NewContext) -> None:
    keys = ["state.text_result", "state.intent", "."]
    assert joined(new_context, source_keys=keys) == {"text": "hello"}


def test_select_of_what_is_missing_is_null(new_context: NewContext) -> None:
    assert joined(new_context, strategy="select", select_key="outputs.gone.text") is None


def test_template_leaves_what_is_missing_and_says_so(
    new_context: NewContext, caplog: pytest.LogCaptureFixture
) -> None:
    template = "{outputs.gone.text}|{text_result}"
    found = joined(new_context, strategy="template", template=template)
    assert found == "{outputs.gone.text}|hello" and "outputs.gone.text" in caplog.text


def test_metadata_says_what_was_missing(new_context: NewContext) -> None:
    meta = {
        "tokens_used": 12,
        "cost": 0.5,
        "execution_path": ["a", "b"],
        "missing": ["image_result", "db_result"],
    }
    assert joined(new_context, include_metadata=True) == {"text": "hello", "_meta": meta}
    selected = joined(new_context, strategy="priority", include_metadata=True)
    assert selected == {"result": "hello", "_meta": meta}


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (
            {"strategy": "template", "template": "{text_result}{db_result}{db_result}"},
            ["db_result"],
        ),
        ({"strategy": "select", "select_key": "outputs.gone.text"}, ["outputs.gone.text"]),
        ({"strategy": "select", "select_key": "outputs.a.score > 0.1"}, []),
        ({"strategy": "custom", "expression": "1"}, []),
        ({"strategy": "priority", "priority_order": ["image_result", "text_result"]},
         ["image_result"]),
    ],
)  # fmt: skip
def test_metadata_counts_what_the_strategy_looks_at(
    new_context: NewContext, options: dict[str, Any], missing: list[str]
) -> None:
    found = joined(new_context, include_metadata=True, **options)
    assert found["_meta"]["missing"] == missing


def test_more_votes_than_voters_are_refused_before_anything_runs() -> None:
    options = options_of(KIND, {"strategy": "vote", "source_keys": TEXTS, "min_votes": 4})
    assert KIND.complaints(options) == ((("min_votes",), "is 4, but source_keys names only 3"),)
    assert KIND.complaints({**options, "min_votes": 3}) == ()
