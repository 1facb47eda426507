"""Node types that validate, with free options, but that this version cannot execute."""

from __future__ import annotations

from agentflow.spec.kinds.base import NodeKind, Options


def _no_source(options: Options) -> bool:
    return not options.get("source")


def _no_source_or_url(options: Options) -> bool:
    url = options.get("url")
    absolute = isinstance(url, str) and url.lower().startswith(("http://", "https://", "{"))
    return not options.get("source") and not absolute


def _agent_sources(options: Options) -> tuple[str, ...]:
    found = [options.get("source")]
    agents = options.get("agents")
    found += (
        [a.get("source") for a in agents if isinstance(a, dict)] if isinstance(agents, list) else []
    )
    return tuple(item for item in found if isinstance(item, str))


def _agent_without_source(options: Options) -> bool:
    return not _agent_sources(options)


def _no_sources(options: Options) -> tuple[str, ...]:
    return ()


KINDS = {
    kind.type: kind
    for kind in (
        NodeKind(
            type="image",
            effects="idempotent",
            attempts=3,
            placement="io",
            field="image_result",
            available=False,
            needs_source=_no_source,
        ),
        NodeKind(
            type="db",
            effects="idempotent",
            attempts=3,
            placement="io",
            field="db_result",
            available=False,
            needs_source=_no_source,
        ),
        NodeKind(
            type="http",
            effects="idempotent",
            attempts=4,
            placement="io",
            field="api_result",
            available=False,
            needs_source=_no_source_or_url,
        ),
        NodeKind(
            type="agent",
            effects="idempotent",
            placement="io",
            field="text_result",
            available=False,
            sources=_agent_sources,
            needs_source=_agent_without_source,
        ),
        NodeKind(
            type="langgraph",
            effects="idempotent",
            placement="io",
            available=False,
            sources=_no_sources,
        ),
        NodeKind(type="map", available=False, sources=_no_sources),
        NodeKind(type="subworkflow", available=False, sources=_no_sources),
        NodeKind(type="human", available=False, sources=_no_sources),
        NodeKind(type="wait", available=False, sources=_no_sources),
        NodeKind(type="plugin", effects="idempotent", placement="cpu", available=False),
    )
}
