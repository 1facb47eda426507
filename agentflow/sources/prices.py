"""What a model call costs: the price of the source, else the built-in table, offline."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

Json = Any
PER = 1_000_000
_LISTED_AS: dict[str, str] = {
    "openai": "openai",
    "azure": "azure",
    "anthropic": "anthropic",
    "gemini": "google",
}
"""Provider -> its name in the table."""
PROVIDERS = tuple(_LISTED_AS)
"""The providers whose prices the built-in table has."""


def cost(
    *,
    provider: str,
    model: str,
    base_url: str | None,
    price: Mapping[str, Json] | None,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int = 0,
) -> tuple[float, bool]:
    """US dollars of a call, to six places, and whether a price is known (else 0.0).

    ``input_tokens`` include the cached ones. ``price`` is the source's own, in dollars per million
    tokens, and comes before the table; ``base_url`` finds providers that the table knows by address.
    """
    cached = min(max(cached_tokens, 0), input_tokens)
    if price and any(price.get(name) is not None for name in ("input_per_mtok", "output_per_mtok")):
        per_input = float(price.get("input_per_mtok") or 0)
        per_cached = price.get("cached_per_mtok")
        per_cached = per_input if per_cached is None else float(per_cached)
        per_output = float(price.get("output_per_mtok") or 0)
        total = (input_tokens - cached) * per_input + cached * per_cached
        return round((total + output_tokens * per_output) / PER, 6), True
    if provider == "local":
        return 0.0, True
    known = _listed(provider, model, base_url, input_tokens, output_tokens, cached)
    return (0.0, False) if known is None else (round(known, 6), True)


def picture_cost(
    *,
    provider: str,
    model: str,
    base_url: str | None,
    price: Mapping[str, Json] | None,
    pictures: int,
    input_tokens: int,
    output_tokens: int,
    picture_tokens: int,
) -> tuple[float, bool]:
    """US dollars of a call that made pictures, and whether a price is known: ``price`` by picture, else
    by tokens, else the built-in table. ``output_tokens`` include those of the pictures.
    """
    if price and price.get("per_image") is not None:
        return round(pictures * float(price["per_image"]), 6), True
    if price and any(price.get(name) is not None for name in ("input_per_mtok", "output_per_mtok")):
        return cost(
            provider=provider,
            model=model,
            base_url=base_url,
            price=price,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )
    known = None
    if output_tokens and find_spec("genai_prices") is not None:
        known = _listed(provider, model, base_url, input_tokens, output_tokens, 0, picture_tokens)
    return (0.0, False) if known is None else (round(known, 6), True)


@lru_cache(maxsize=4096)
def price_known(provider: str, model: str, base_url: str | None = None) -> bool | None:
    """Whether the built-in table has a price of this model; None where no table is installed."""
    if provider == "local":
        return True
    if find_spec("genai_prices") is None:
        return None
    return _listed(provider, model, base_url, 1, 1, 0) is not None


class Price(NamedTuple):
    """What a model costs by the built-in table, in dollars per million tokens of a short call."""

    provider: str
    model: str
    input_per_mtok: float
    output_per_mtok: float
    cached_per_mtok: float


def known_prices(provider: str | None = None, text: str = "") -> list[Price]:
    """The models whose names hold the text, of one of our providers or of all; sorted. Empty where no
    table is installed."""
    if find_spec("genai_prices") is None:
        return []
    from genai_prices import data_snapshot

    wanted = {listed: own for own, listed in _LISTED_AS.items() if provider in (None, own)}
    found = [
        _price(wanted[each.id], model.id)
        for each in data_snapshot.get_snapshot().providers
        if each.id in wanted
        for model in each.models
        if text.lower() in model.id.lower()
    ]
    return sorted(price for price in found if price is not None)


def _price(provider: str, model: str) -> Price | None:
    """The price of one model; None where it is not by tokens."""
    thousand = ((1000, 0, 0), (0, 1000, 0), (1000, 0, 1000))
    dollars = [_listed(provider, model, None, *counts) for counts in thousand]
    if not any(dollars):
        return None
    return Price(provider, model, *(round((each or 0.0) * 1000, 6) for each in dollars))


def _listed(
    provider: str,
    model: str,
    base_url: str | None,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int,
    picture_tokens: int = 0,
) -> float | None:
    """The table's price of a call in dollars; None when the table does not know the model."""
    own = None if base_url else _LISTED_AS.get(provider)
    if own is None and not base_url:
        return None
    import genai_prices

    usage = genai_prices.Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cached_tokens or None,
        output_image_tokens=picture_tokens or None,
    )
    try:
        if own:
            return float(genai_prices.calc_price(usage, model, provider_id=own).total_price)
        priced = genai_prices.calc_price(usage, model, provider_api_url=base_url)
        return float(priced.total_price)
    except (LookupError, ValueError):
        return None
