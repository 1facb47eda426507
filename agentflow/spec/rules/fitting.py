"""Stage 4, between options and the rest: options against the settings, sources and operator's list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentflow.spec.environment import literal_credentials
from agentflow.spec.gotos import expiry_of, goto_of
from agentflow.spec.kinds.http import host_of
from agentflow.spec.kinds.models import SIZE, ImageModel, image_model, is_free_size
from agentflow.spec.problems import Part
from agentflow.spec.rules.draft import Draft
from agentflow.spec.rules.sources import check_name

Json = Any


def check_fitting(draft: Draft) -> None:
    """Find E024 where options do not fit their source, E003 for effects that the durability cannot
    keep or whose results cannot be reused, and E016 in signatures."""
    settings = draft.document.get("settings")
    volatile = isinstance(settings, dict) and settings.get("durability") == "none"
    for position, kind in draft.kinds.items():
        if kind.type == "http":
            _signature(draft, position)
        if position not in draft.options:
            continue
        if kind.type == "image":
            _picture(draft, position)
        elif kind.type == "db":
            _write(draft, position)
        elif kind.type == "http":
            _address(draft, position)
        elif kind.type == "human":
            _expiry(draft, position)
        elif kind.type == "llm":
            _window(draft, position)
        if draft.nodes[position].get("cache"):
            _reuse(draft, position)
        if volatile and not draft.nodes[position].get("effects"):
            _volatile(draft, position)


def effects_of(draft: Draft, position: int) -> str:
    """What a node's effects are: its own, else those of its type with these options."""
    own = draft.nodes[position].get("effects")
    if isinstance(own, str):
        return own
    options = draft.options.get(position)
    if options is None:
        return draft.kinds[position].effects
    return draft.kinds[position].refined(options, _first_config(draft, position)).effects


def _first_config(draft: Draft, position: int) -> dict[str, Json]:
    """The configuration of the first source that a node names."""
    named = draft.kinds[position].sources(draft.options[position])
    return config_of(draft, named[0]) if named else {}


def config_of(draft: Draft, source: Json) -> dict[str, Json]:
    """The configuration of a source of this document; empty when it is another one."""
    found = draft.source_ids.get(source) if isinstance(source, str) else None
    config = (found or {}).get("config")
    return config if isinstance(config, dict) else {}


def _picture(draft: Draft, position: int) -> None:
    options = draft.options[position]
    named = options["source"] if isinstance(options["source"], list) else [options["source"]]
    for source in named:
        config = config_of(draft, source)
        name = config.get("model")
        model = image_model(name) if isinstance(name, str) else None
        if model is None:
            continue
        size = options["size"] or config.get("size", "1024x1024")
        quality = options["quality"] or config.get("quality", "standard")
        if not _makes(model, size):
            made = ", ".join(model.sizes) or "edges that are multiples of 16, up to 3840 pixels"
            text = f"'size': {name!r} makes {made}, not {str(size)[:40]!r}"
            _invalid(draft, position, ("size",) if options["size"] else ("source",), text)
        if quality not in model.qualities:
            known = ", ".join(model.qualities)
            text = f"'quality': {name!r} knows {known}, not {str(quality)[:40]!r}"
            _invalid(draft, position, ("quality",) if options["quality"] else ("source",), text)
        if options["style"] and not model.styles:
            text = f"'style': {name!r} knows no styles; say it in the prompt"
            _invalid(draft, position, ("style",), text)
        if options["n"] > model.most:
            text = f"'n': {name!r} makes at most {model.most} at once"
            _invalid(draft, position, ("n",), text)


def _makes(model: ImageModel, size: Json) -> bool:
    if model.sizes:
        return size in model.sizes
    return isinstance(size, str) and SIZE.fullmatch(size) is not None and is_free_size(size)


def _write(draft: Draft, position: int) -> None:
    options = draft.options[position]
    source = options["source"]
    if options["mode"] != "write" or source not in draft.source_ids:
        return
    if config_of(draft, source).get("allow_write") is not True:
        text = f"'mode': source {source!r} does not allow writes"
        hint = "Set allow_write in the source's config"
        _invalid(draft, position, ("mode",), text, hint)


def _address(draft: Draft, position: int) -> None:
    """With a source its credentials are sent along, so an absolute address must be the source's."""
    options = draft.options[position]
    source, url = options["source"], options["url"]
    base = config_of(draft, source).get("base_url")
    if not isinstance(base, str) or draft.source_ids[source]["kind"] != "api":
        return
    host = host_of(url)
    if host is not None and host != host_of(base):
        text = (
            f"'url': leads to another host than source {source!r}, whose credentials would be sent "
            f"there: it must lie under {base[:100]!r}"
        )
        hint = "Write only what follows base_url, or leave out 'source'"
        _invalid(draft, position, ("url",), text, hint)


def _expiry(draft: Draft, position: int) -> None:
    node = draft.nodes[position]
    failed, expired = goto_of(node.get("on_error")), expiry_of(node)
    if failed is not None and expired is not None and failed != expired:
        text = f"'on_expire.goto': leads to {expired[:100]!r}, but 'on_error' to {failed[:100]!r}"
        hint = "A node has one error edge: name the same node, or leave out one of the two"
        _invalid(draft, position, ("on_expire", "goto"), text, hint)


def _window(draft: Draft, position: int) -> None:
    """A reply that leaves no room for the prompt in the context window of a source."""
    options = draft.options[position]
    chain = options["source"] if isinstance(options["source"], list) else [options["source"]]
    for source in chain:
        config = config_of(draft, source)
        window, own = config.get("context_window"), config.get("max_tokens")
        tokens = options["max_tokens"] or own
        if isinstance(window, int) and isinstance(tokens, int) and tokens >= window:
            text = (
                f"'max_tokens': {tokens:,} leave no room for the prompt in the context window of "
                f"source {source!r}, which is {window:,}"
            )
            place = ("max_tokens",) if options["max_tokens"] else ("source",)
            _invalid(draft, position, place, text)
            return


def _volatile(draft: Draft, position: int) -> None:
    node = draft.nodes[position]
    if effects_of(draft, position) == "once":
        draft.add(
            "E003",
            f"durability 'none' cannot be used with node {node['id']!r} of effects 'once'",
            ("settings", "durability"),
            node_id=node["id"],
            hint="Use durability 'strict' or 'relaxed'",
        )


def _reuse(draft: Draft, position: int) -> None:
    """What is done by a step that is not done is missing; and nobody answers for tomorrow."""
    node, kind = draft.nodes[position], draft.kinds[position].type
    effects = effects_of(draft, position)
    hint = "Leave out 'cache'; or give effects 'pure' if nothing is changed outside"
    if kind in ("human", "wait"):
        why, hint = "the answer to an earlier wait is not that to this one", "Leave out 'cache'"
    elif effects == "once":
        why = "its effects are 'once', and where a result is reused there are none"
    elif effects != "pure" and _changes(kind, draft.options[position]):
        why = "it changes something outside, which a reused result would not"
    else:
        return
    text = f"'cache' cannot be used with node {node['id']!r} of type {kind!r}: {why}"
    draft.add("E003", text, ("nodes", position, "cache"), node_id=node["id"], hint=hint)


def _changes(kind: str, options: Mapping[str, Json]) -> bool:
    """Whether the purpose of a node is to change something outside."""
    if kind == "http":
        return options["method"] not in ("GET", "HEAD", "OPTIONS")
    return kind == "db" and options["mode"] == "write"


def _signature(draft: Draft, position: int) -> None:
    """Signing with a credential is like a source: only names, and only those on the list."""
    node = draft.nodes[position]
    sign = (node.get("metadata") or {}).get("sign")
    if not isinstance(sign, dict):
        return
    at: tuple[Part, ...] = ("nodes", position, "metadata", "sign")
    found = set()
    for place, what in literal_credentials(sign):
        found.add(place)
        name = ".".join(str(part) for part in place)
        draft.add(
            "E016",
            f"'sign.{name}' of node {node['id']!r} holds {what}",
            (*at, *place),
            node_id=node["id"],
            hint="Put the credential into an environment variable and give its name",
        )
    for key, value in sign.items():
        if (key,) not in found and key.endswith(("_env", "_ref")):
            check_name(draft, node["id"], f"'sign.{key}' of node {node['id']!r}", value, (*at, key))


def _invalid(
    draft: Draft, position: int, at: tuple[Part, ...], what: str, hint: str | None = None
) -> None:
    node = draft.nodes[position]
    text = f"Node {node['id']!r} of type {node['type']!r}: option {what}"
    draft.add("E024", text, ("nodes", position, "metadata", *at), node_id=node["id"], hint=hint)
