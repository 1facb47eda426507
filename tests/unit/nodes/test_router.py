"""Router nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agentflow.errors import (
    ConditionError,
    NodeFailed,
    NotSupported,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
)
from agentflow.nodes.base import is_inline
from agentflow.nodes.router import Classification, RouterNode
from tests.fake_provider import FakeProvider, Status, Text
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
    "options", [{"source": "m"}, {"strategy": "llm"}, {"strategy": "classifier", "plugin": "p"}]
)
def test_strategies_that_wait_do_not_run_in_the_coordinator(
    new_context: NewContext, options: dict[str, Any]
) -> None:
    context = new_context("router", options, {"user_input": "x"})
    assert context.node.placement != "inline"
    with pytest.raises(NotSupported):
        RouterNode().run_inline(context)


@pytest.mark.parametrize(
    ("options", "placement"),
    [({"routes": ROUTES}, "inline"), ({"source": "m"}, "io"), ({"routes": ROUTES}, "cpu")],
)
def test_placement_decides_how_a_router_runs(
    new_context: NewContext, options: dict[str, Any], placement: str
) -> None:
    assert is_inline(RouterNode(), placement) == (placement == "inline")


async def test_cheap_strategy_gives_the_same_on_a_worker(new_context: NewContext) -> None:
    context = new_context("router", {"routes": ROUTES}, {"user_input": "a refund"})
    assert await RouterNode().run(context) == RouterNode().run_inline(context)


DESCRIBED = [
    {"intent": "refund", "description": "wants money back", "keywords": ["money"]},
    {"intent": "praise"},
    {"intent": "refund", "description": "said again"},
]


async def test_llm_router_restricts_the_reply_to_the_intents(
    provider: FakeProvider, model_step: NewContext
) -> None:
    provider.script(Text('{"intent": "praise"}', usage=(1000, 500, 10)))
    options = {"strategy": "llm", "routes": DESCRIBED, "model": "m2", "output_key": "kind"}
    context = model_step("router", options, {"user_input": "Lovely {intent}!"})
    done = await RouterNode().run(context)
    assert done.result == {"intent": "praise", "matched": True, "strategy": "llm"}
    assert done.delta == {"kind": "praise"}
    body = provider.last.body
    described = body["response_format"]["json_schema"]
    assert described["schema"] == {
        "type": "object",
        "properties": {"intent": {"type": "string", "enum": ["refund", "praise", "unknown"]}},
        "required": ["intent"],
        "additionalProperties": False,
    }
    assert described["strict"] and body["model"] == "m2" and not provider.last.streams
    told, said = body["messages"]
    assert said == {"role": "user", "content": "Lovely {intent}!"}
    assert '- "refund": wants money back\n- "praise"\n- "unknown": none' in told["content"]
    assert provider.last.idempotency_key == context.key(0)


async def test_llm_router_records_what_it_used(
    provider: FakeProvider, model_step: NewContext
) -> None:
    provider.script(Text('{"intent": "praise"}', usage=(1000, 500, 10)))
    context = model_step("router", {"strategy": "llm", "routes": DESCRIBED}, {})
    await RouterNode().run(context)
    [call] = context.calls
    assert (call.source, call.usage.input_tokens, call.cost) == ("main", 1000, 0.002)


async def test_llm_router_sends_the_prompt_of_its_author(
    provider: FakeProvider, model_step: NewContext
) -> None:
    provider.script(Text('{"intent": "praise"}'))
    options = {"strategy": "llm", "routes": DESCRIBED, "prompt": "Mail: {user_input}"}
    await RouterNode().run(model_step("router", options, {"user_input": "{intent}\ud800"}))
    assert provider.last.prompt == "Mail: {intent}?"


@pytest.mark.parametrize("reply", ["Refund", '"refund"', '```json\n{"intent": "refund"}\n```'])
async def test_llm_router_understands_small_models(
    provider: FakeProvider, model_step: NewContext, reply: str
) -> None:
    provider.script(Text(reply))
    options = {"strategy": "llm", "routes": DESCRIBED}
    done = await RouterNode().run(model_step("router", options, {"user_input": "x"}))
    assert done.result["intent"] == "refund" and provider.calls == 1


async def test_llm_router_repairs_a_reply_once(
    provider: FakeProvider, model_step: NewContext
) -> None:
    provider.script(Text('{"intent": "other"}'), Text('{"intent": "refund"}'))
    context = model_step("router", {"strategy": "llm", "routes": DESCRIBED}, {"user_input": "x"})
    done = await RouterNode().run(context)
    assert done.result["intent"] == "refund" and len(context.calls) == 2
    assert [r.idempotency_key for r in provider.requests] == [context.key(0), context.key(1)]


@pytest.mark.parametrize("reply", ['{"intent": "other"}', '{"intent": "unknown"}', "no idea", ""])
async def test_llm_router_takes_the_default_when_the_reply_is_no_intent(
    provider: FakeProvider, model_step: NewContext, reply: str
) -> None:
    provider.default = Text(reply)
    options = {"strategy": "llm", "routes": DESCRIBED}
    done = await RouterNode().run(model_step("router", options, {"user_input": "x"}))
    assert done.result == {"intent": "unknown", "matched": False, "strategy": "llm"}
    assert provider.calls == (1 if "unknown" in reply else 2)


async def test_llm_router_without_routes_knows_the_built_in_classes(
    provider: FakeProvider, model_step: NewContext
) -> None:
    provider.script(Text('{"intent": "database"}'))
    done = await RouterNode().run(model_step("router", {}, {"user_input": "how many orders?"}))
    assert done.result == {"intent": "database", "matched": True, "strategy": "llm"}
    schema = provider.last.body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["intent"]["enum"] == ["image", "database", "text"]


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({"routes": DESCRIBED, "fallback": "keyword"}, "My MONEY!", ("refund", True)),
        ({"routes": DESCRIBED, "fallback": "keyword"}, "hm", ("other", False)),
        ({"routes": DESCRIBED}, "My MONEY!", ("other", False)),
        ({"fallback": "keyword"}, "draw a cat", ("image", True)),
    ],
)
async def test_llm_router_falls_back_when_the_call_has_failed(
    provider: FakeProvider,
    model_step: NewContext,
    options: dict[str, Any],
    text: str,
    expected: tuple[str, bool],
) -> None:
    provider.default = Status(400)
    given = {"strategy": "llm", "default_intent": "other", **options}
    done = await RouterNode().run(model_step("router", given, {"user_input": text}))
    assert (done.result["intent"], done.result["matched"]) == expected
    assert done.result["fallback"] == given.get("fallback", "default")
    assert done.result["error"]["type"] == "ProviderRejected"
    assert done.delta == {"intent": expected[0]}


@pytest.mark.parametrize("status", [503, 429])
async def test_llm_router_falls_back_only_after_its_last_attempt(
    provider: FakeProvider, model_step: NewContext, status: int
) -> None:
    provider.default = Status(status)
    options = {"strategy": "llm", "routes": DESCRIBED}
    for attempt in (1, 2):
        with pytest.raises((ProviderUnavailable, ProviderRateLimited)):
            await RouterNode().run(model_step("router", options, {}, attempt=attempt))
    done = await RouterNode().run(model_step("router", options, {}, attempt=3))
    assert done.result["fallback"] == "default"


async def test_llm_router_fails_when_it_is_to_fail(
    provider: FakeProvider, model_step: NewContext
) -> None:
    provider.default = Status(400)
    options = {"strategy": "llm", "routes": DESCRIBED, "fallback": "fail"}
    with pytest.raises(ProviderRejected):
        await RouterNode().run(model_step("router", options, {}, attempt=3))


class LongestWord:
    """A classifier: the intent that is the longest of those in the text."""

    async def classify(self, text: str, intents: Sequence[str]) -> Classification:
        if not text:
            raise NodeFailed("nothing to classify")
        found = max((i for i in intents if i in text), key=len, default="")
        return {"intent": found, "confidence": len(found) / len(text)}


CLASSIFIED = {"strategy": "classifier", "plugin": "longest", "routes": DESCRIBED}


async def test_classifier_names_the_intent_and_how_sure_it_is(new_context: NewContext) -> None:
    node = RouterNode(classifiers={"longest": LongestWord()})
    done = await node.run(new_context("router", CLASSIFIED, {"user_input": "praise, refunds."}))
    assert done.result == {
        "intent": "refund",
        "matched": True,
        "strategy": "classifier",
        "confidence": 0.375,
    }
    done = await node.run(new_context("router", CLASSIFIED, {"user_input": "hello"}))
    assert done.result["intent"] == "unknown" and not done.result["matched"]


async def test_classifier_that_fails_has_a_fallback(new_context: NewContext) -> None:
    node = RouterNode(classifiers={"longest": LongestWord()})
    done = await node.run(new_context("router", CLASSIFIED, {"user_input": ""}))
    assert done.result["error"] == {"type": "NodeFailed", "message": "nothing to classify"}
    with pytest.raises(NodeFailed):
        await node.run(new_context("router", {**CLASSIFIED, "fallback": "fail"}, {}))


async def test_unknown_classifier_is_named(new_context: NewContext) -> None:
    with pytest.raises(NotSupported, match="'longest'"):
        await RouterNode().run(new_context("router", CLASSIFIED, {"user_input": "x"}))
