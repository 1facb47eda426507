"""What is known about the models that a workflow calls: their price, their end, and the size of a
call against the limits it passes through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from agentflow.spec.kinds.models import deprecated
from agentflow.spec.problems import Part
from agentflow.spec.rules.draft import Draft
from agentflow.spec.rules.fitting import config_of

Json = Any
Priced = Callable[[str, str, str | None], bool | None]
PER_TOKEN = 4
"""Characters that are taken for one token."""
MAX_TOKENS = 4096
"""The longest reply, in tokens, where neither node nor source says."""


class Call(NamedTuple):
    """A model that is called: where it is named, by what element, and its source's configuration."""

    at: tuple[Part, ...]
    owner: str
    model: str
    config: dict[str, Json]


def check_models(draft: Draft, priced: Priced | None) -> None:
    """Find W010, W011 and W013. Without ``priced``, prices are not judged."""
    for call in (*_of_sources(draft), *_of_nodes(draft)):
        provider = call.config.get("provider")
        if not isinstance(provider, str):
            continue
        if deprecated(provider, call.model):
            draft.add(
                "W013",
                f"{provider} has published that the model {call.model!r} is deprecated",
                call.at,
                node_id=call.owner,
                hint="Name a model that is not going to be shut down",
            )
        if priced is not None and not _has_price(call.config):
            _price(draft, call, provider, priced)
    _sizes(draft)


def _of_sources(draft: Draft) -> Iterator[Call]:
    for index, source in draft.sources.items():
        config = config_of(draft, source["id"])
        model = config.get("model")
        if source["kind"] in ("llm", "image") and isinstance(model, str):
            at: tuple[Part, ...] = ("sources", index, "config", "model")
            yield Call(at, source["id"], model, config)


def _of_nodes(draft: Draft) -> Iterator[Call]:
    """The models that nodes name themselves, with their first source."""
    for position, options in draft.options.items():
        at: tuple[Part, ...] = ("nodes", position, "metadata")
        owner, source = draft.nodes[position]["id"], options.get("source")
        first = source[0] if isinstance(source, list) and source else source
        named: list[tuple[tuple[Part, ...], Json, Json]] = [
            ((*at, "model"), options.get("model"), first)
        ]
        if draft.kinds[position].type == "agent":
            named += [
                ((*at, "agents", index, "model"), agent.get("model"), agent.get("source") or source)
                for index, agent in enumerate(options["agents"])
            ]
        for place, model, name in named:
            if isinstance(model, str) and config_of(draft, name):
                yield Call(place, owner, model, config_of(draft, name))


def _has_price(config: dict[str, Json]) -> bool:
    price = config.get("price")
    return isinstance(price, dict) and any(value is not None for value in price.values())


def _price(draft: Draft, call: Call, provider: str, priced: Priced) -> None:
    base_url = call.config.get("base_url")
    if priced(provider, call.model, base_url if isinstance(base_url, str) else None) is False:
        draft.add(
            "W010",
            f"No price is known for the model {call.model!r}: its cost counts as 0, and budgets in "
            "money cannot hold it",
            call.at,
            node_id=call.owner,
            hint="Set price in the source's config",
        )


def _sizes(draft: Draft) -> None:
    """Find W011: calls that no window of a queue can hold."""
    limits = {name: _limit(queue.get("bandwidth")) for name, queue in draft.queue_ids.items()}
    of_source = {name: _limit(config_of(draft, name).get("limits")) for name in draft.source_ids}
    if not any((*limits.values(), *of_source.values())):
        return
    passed = _queues(draft)
    for position, options in draft.options.items():
        if draft.kinds[position].type not in ("llm", "agent"):
            continue
        held: list[tuple[int, str]] = [
            (limit, f"queue {name!r}")
            for name in passed.get(position, ())
            if (limit := limits.get(name))
        ]
        for tokens, names in _estimates(draft, position, options):
            held_here = held + [
                (limit, f"source {name!r}") for name in names if (limit := of_source.get(name))
            ]
            if held_here and tokens > min(held_here)[0]:
                _too_large(draft, position, tokens, *min(held_here))
                break


def _too_large(draft: Draft, position: int, tokens: int, limit: int, where: str) -> None:
    node = draft.nodes[position]
    draft.add(
        "W011",
        f"One call of node {node['id']!r} is estimated at {tokens:,} tokens, but {where} admits "
        f"{limit:,} a minute: it waits for a full window and passes alone",
        ("nodes", position),
        node_id=node["id"],
        hint="Set max_tokens, or raise max_tokens_per_minute",
    )


def _limit(bandwidth: Json) -> int | None:
    limit = bandwidth.get("max_tokens_per_minute") if isinstance(bandwidth, dict) else None
    return limit if isinstance(limit, int) and not isinstance(limit, bool) else None


def _queues(draft: Draft) -> dict[int, list[str]]:
    """Node position -> ids of the queues that its steps pass through."""
    found: dict[int, list[str]] = {}
    bound: dict[tuple[str, str], list[str]] = {}
    for queue in draft.queues.values():
        bound.setdefault((queue["from"], queue["to"]), []).append(queue["id"])
    for position, node in draft.nodes.items():
        if node.get("queue") is not None:
            found.setdefault(position, []).append(node["queue"])
    for link in draft.links:
        if link.target < 0:
            continue
        names = found.setdefault(link.target, [])
        names += bound.get((draft.nodes[link.source]["id"], draft.nodes[link.target]["id"]), ())
        named = draft.edges[link.index].get("queue") if link.index >= 0 else None
        if named is not None:
            names.append(named)
    return found


def _estimates(
    draft: Draft, position: int, options: dict[str, Json]
) -> Iterator[tuple[int, list[str]]]:
    """(tokens of one call, ids of the sources that make it)."""
    if draft.kinds[position].type == "llm":
        source = options["source"]
        names = [source] if isinstance(source, str) else list(source or ())
        said = options["messages"] if options["messages"] is not None else options["prompt"]
        asked = _characters(said) + _characters(options["system_prompt"])
        yield _tokens(asked, options["max_tokens"] or _longest(draft, names)), names
        return
    prompt = _characters(options["prompt"])
    for agent in options["agents"] or (options,):
        name = agent.get("source") or options["source"]
        asked = prompt + _characters(agent["system_prompt"])
        yield _tokens(asked, _longest(draft, [name])), [name]


def _tokens(characters: int, reply: int) -> int:
    return -(-characters // PER_TOKEN) + reply


def _longest(draft: Draft, names: list[str]) -> int:
    given = [config_of(draft, name).get("max_tokens") for name in names]
    known = [tokens if isinstance(tokens, int) else MAX_TOKENS for tokens in given]
    return max(known, default=MAX_TOKENS)


def _characters(value: Json) -> int:
    """The length of every text in a value, as it is before templates are filled in."""
    count, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            count += len(item)
        elif isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list):
            stack += item
    return count
