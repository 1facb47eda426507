"""Sources: kind, provider, configuration, and that no credential is written into them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from agentflow.spec.environment import NAME, SECRET, allowed, allowed_names, literal_credentials
from agentflow.spec.kinds.sources import CONFIGS, KINDS, PROVIDERS, missing_keys, provider_of
from agentflow.spec.problems import Part, near
from agentflow.spec.rules.draft import Draft
from agentflow.spec.rules.shape import grouped

Json = Any


def check_sources(draft: Draft) -> None:
    """Find E015, E016, and E002, E003 and E017 inside configurations."""
    for index, source in draft.sources.items():
        config = source.get("config") or {}
        at = ("sources", index, "config")
        secret = _credentials(draft, source, config, at)
        if source["kind"] not in KINDS:
            draft.add(
                "E015",
                f"Source {source['id']!r} has the unknown kind {source['kind'][:100]!r}",
                ("sources", index, "kind"),
                node_id=source["id"],
                hint=near(source["kind"], KINDS) or f"Known kinds: {', '.join(KINDS)}",
            )
        elif _provider(draft, index, source, config):
            _configuration(draft, source, config, at, secret)


def _provider(draft: Draft, index: int, source: dict[str, Json], config: dict[str, Json]) -> bool:
    kind = source["kind"]
    known = PROVIDERS[kind]
    if not known:
        return True
    key = "driver" if kind == "db" and "driver" in config else "provider"
    name = config.get(key)
    if name is None and kind == "db":
        return True
    at = ("sources", index, "config", key)
    choices = f"One of: {', '.join(known)}"
    if name is None:
        text = f"'config.{key}' of source {source['id']!r} is required, but missing"
        draft.add("E002", text, at, node_id=source["id"], hint=choices)
        return False
    if not isinstance(name, str) or name not in known:
        shown = name[:100] if isinstance(name, str) else name
        draft.add(
            "E015",
            f"Source {source['id']!r} of kind {kind!r} has the unknown {key} "
            f"{shown if isinstance(shown, str | int) else 'given'!r}",
            at,
            node_id=source["id"],
            hint=near(name, known) or choices,
        )
        return False
    return True


def _configuration(
    draft: Draft,
    source: dict[str, Json],
    config: dict[str, Json],
    at: tuple[Part, ...],
    secret: set[tuple[Part, ...]],
) -> None:
    for key in missing_keys(source["kind"], config):
        literal = key.removesuffix("_env").removesuffix("_ref")
        if (literal,) in secret:
            continue
        draft.add(
            "E002",
            f"'config.{key}' of source {source['id']!r} is required, but missing",
            (*at, key),
            node_id=source["id"],
            hint=f"Source of kind {source['kind']!r}, provider "
            f"{provider_of(source['kind'], config)!r}",
        )
    try:
        CONFIGS[source["kind"]].model_validate(config)
    except ValidationError as error:
        for place, sentences, kinds in grouped(error, config):
            if place in secret or "missing" in kinds:
                continue
            name = ".".join(str(part) for part in place)
            draft.add(
                "E017" if place[:1] == ("limits",) else "E003",
                f"'config.{name}' of source {source['id']!r}: {' or '.join(sentences)}",
                (*at, *place),
                node_id=source["id"],
            )


def _credentials(
    draft: Draft, source: dict[str, Json], config: dict[str, Json], at: tuple[Part, ...]
) -> set[tuple[Part, ...]]:
    found: set[tuple[Part, ...]] = set()
    for place, what in literal_credentials(config):
        found.add(place)
        name = ".".join(str(part) for part in place)
        draft.add(
            "E016",
            f"'config.{name}' of source {source['id']!r} holds {what}",
            (*at, *place),
            node_id=source["id"],
            hint="Put the credential into an environment variable and give its name, for example "
            '"api_key_env": "OPENAI_API_KEY"',
        )
    for key, value in config.items():
        if (key,) not in found and key.endswith(("_env", "_ref")):
            subject = f"'config.{key}' of source {source['id']!r}"
            check_name(draft, source["id"], subject, value, (*at, key))
    return found


def check_name(draft: Draft, owner: str, subject: str, value: Json, at: tuple[Part, ...]) -> None:
    """Find E003, E016 and W009 at a key that ends in ``_env`` or ``_ref``, so that it must name a
    variable or a secret. ``subject``: the key and its element in words; ``owner``: the element's id."""
    if str(at[-1]).endswith("_ref"):
        if not isinstance(value, str) or not SECRET.fullmatch(value):
            text = f"{subject}: expected a secret reference such as secret://name"
            draft.add("E003", text, at, node_id=owner)
        return
    if not isinstance(value, str) or not NAME.fullmatch(value):
        draft.add(
            "E003",
            f"{subject}: expected the name of an environment variable",
            at,
            node_id=owner,
            hint="Capital letters, digits and underscores, such as OPENAI_API_KEY",
        )
    elif not allowed(value, draft.allowed_env):
        draft.add(
            "E016",
            f"{subject} names an environment variable that is not on the operator's allow-list",
            at,
            node_id=owner,
            hint=near(value, allowed_names(draft.allowed_env))
            or "Use a name that a provider documents, such as OPENAI_API_KEY, or ask the operator "
            "to add it to AGENTFLOW_SOURCE_ENV",
        )
    elif draft.present_env is not None and value not in draft.present_env:
        text = f"{subject} names {value}, which is not set on this server"
        draft.add("W009", text, at, node_id=owner)
