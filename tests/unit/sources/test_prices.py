"""Costs of calls."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agentflow.sources.credentials import masked
from agentflow.sources.prices import cost, price_known


def priced(**changes: Any) -> tuple[float, bool]:
    call: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "base_url": None,
        "price": None,
        "input_tokens": 1_000_000,
        "output_tokens": 1_000_000,
    }
    return cost(**(call | changes))


def test_known_model_has_a_price() -> None:
    dollars, known = priced()
    assert known and 0.1 < dollars < 5


def test_cached_tokens_are_cheaper() -> None:
    assert priced(cached_tokens=1_000_000)[0] < priced()[0]


@pytest.mark.parametrize("model", ["gpt-4o-mini-2024-07-18", "gpt-4o"])
def test_dated_and_larger_models_are_known(model: str) -> None:
    assert priced(model=model)[1]


def test_unknown_models_and_providers_have_no_price() -> None:
    assert priced(model="no-such-model") == (0.0, False)
    assert priced(provider="vllm", base_url="http://10.0.0.1/v1") == (0.0, False)
    assert priced(provider="vllm") == (0.0, False)


def test_provider_is_found_by_its_address() -> None:
    assert priced(provider="openai-compatible", base_url="https://api.openai.com/v1") == priced()


def test_own_price_comes_first_and_is_rounded() -> None:
    price = {"input_per_mtok": 1 / 3, "output_per_mtok": None, "cached_per_mtok": 0.0}
    assert priced(price=price, output_tokens=5) == (0.333333, True)
    assert priced(price=price, cached_tokens=2_000_000) == (0.0, True)
    assert priced(price={"input_per_mtok": 0.0}) == (0.0, True)


def test_local_models_cost_nothing() -> None:
    assert priced(provider="local", model="smollm2") == (0.0, True)


def test_foreign_text_is_masked_and_cut() -> None:
    text = "key my-secret-1 and sk-abcdefghijk\nBearer abcdef123 " + "x" * 500
    shown = masked(text, ("my-secret-1",))
    assert shown.startswith("key *** and *** *** xxx") and len(shown) == 300


def test_long_foreign_text_is_cut_quickly() -> None:
    text = "word " * 4_000_000 + "my-secret-1"
    began = time.thread_time()
    assert len(masked(text, ("my-secret-1",))) == 300
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize(
    ("provider", "model", "base_url", "known"),
    [
        ("local", "smollm2", None, True),
        ("openai", "gpt-4o", None, True),
        ("openai", "my-own-model", None, False),
        ("anthropic", "claude-sonnet-4-5", None, True),
        ("gemini", "gemini-2.5-flash", None, True),
        ("azure", "gpt-4o", None, True),
        ("openai", "gpt-4o", "https://models.example.com/v1", False),
        ("openai-compatible", "qwen3", "https://models.example.com/v1", False),
        ("vllm", "qwen3", None, False),
    ],
)
def test_price_known_asks_the_table(
    provider: str, model: str, base_url: str | None, known: bool
) -> None:
    assert price_known(provider, model, base_url) is known
