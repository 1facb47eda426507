"""Options of ``agent`` nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from agentflow.spec.kinds.base import (
    PATH,
    TEMPLATE,
    Complaint,
    Json,
    NodeKind,
    Options,
    OptionsModel,
    Place,
    Text,
)
from agentflow.spec.kinds.values import Word, schema_complaints
from agentflow.spec.models import BudgetSpec

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
SOURCE_OF_TOOL: Mapping[str, str] = {"http": "api", "db": "db", "mcp": "mcp"}
"""Type of a tool whose ``ref`` names a source -> the kind that source must have."""
_TEAMS = ("supervisor", "handoff")


class Agent(OptionsModel):
    """One agent: a model, its instructions and what it may use."""

    name: ToolName = Field(description="Its name, unique in the node.")
    source: Word | None = Field(
        None, description="Id of its source of kind llm. Null: the node's source."
    )
    model: Word | None = Field(None, description="A model other than the source's.")
    system_prompt: str = Field(description="Template of its instructions.")
    tools: list[str] = Field([], description="Names of the node's tools that it may call.")
    handoffs: list[str] = Field([], description="Names of the agents that it may hand over to.")


class Tool(OptionsModel):
    """Something that agents may call."""

    name: ToolName = Field(description="Its name, unique in the node, as the model sees it.")
    type: Literal["workflow", "http", "db", "plugin", "mcp"] = Field(description="What it is.")
    ref: Word = Field(
        description="Id of the workflow, name of the plugin, or id of the source (http, db, mcp)."
    )
    description: str | None = Field(None, description="What it is for, as told to the model.")
    schema_: dict[str, Any] | None = Field(
        None, alias="schema", description="A JSON Schema of its arguments."
    )
    approve: bool = Field(False, description="Whether a person must approve each call.")
    fatal: bool = Field(
        False, description="Whether its error fails the step instead of being told to the model."
    )


class AgentOptions(OptionsModel):
    """Agents that call models and tools until they have an answer."""

    pattern: Literal["single", "supervisor", "handoff", "sequence"] = Field(
        "single",
        description="One agent; the first one directs the others; they hand over to each other; one "
        "after the other.",
    )
    agents: list[Agent] = Field(
        [], description="The agents. Empty: one agent of source and system_prompt."
    )
    source: Word | None = Field(
        None, description="Id of a source of kind llm, for agents that name none."
    )
    model: Word | None = Field(None, description="A model other than the source's.")
    system_prompt: str | None = Field(
        None, description="Template of the instructions, where agents is empty."
    )
    tools: list[Tool] = Field([], description="What the agents may call.")
    thread_id: str | None = Field(
        None,
        description="Template of an id under which memory is kept across executions. Null: memory "
        "of this execution only.",
    )
    prompt: str = Field("{user_input}", description="Template of the message to the first agent.")
    history_key: Word | None = Field(
        None, description="State field that keeps the chat history. Null: none."
    )
    response_schema: dict[str, Any] | None = Field(
        None, description="A JSON Schema that the answer must fit."
    )
    max_turns: Annotated[int, Field(ge=1)] = Field(10, description="Most calls of a model.")
    max_tool_calls: Annotated[int, Field(ge=0)] = Field(50, description="Most calls of tools.")
    budget: BudgetSpec | None = Field(None, description="A cap within the execution's budget.")
    output_key: Word = Field("text_result", description="State field that is written.")


def _complaints(options: Options) -> tuple[Complaint, ...]:
    found: list[Complaint] = []
    agents, tools = options["agents"], options["tools"]
    if options["pattern"] == "single" and len(agents) > 1:
        found.append((("pattern",), "'single' has one agent; choose another pattern for several"))
    if options["pattern"] in _TEAMS and len(agents) < 2:
        found.append((("agents",), f"must be at least 2 for pattern {options['pattern']!r}"))
    if agents and options.get("system_prompt") is not None:
        found.append((("system_prompt",), "cannot stand beside 'agents': each has its own"))
    for name, items in (("agents", agents), ("tools", tools)):
        found += _repeated(name, items)
    found += _unknown(agents, tools)
    for index, tool in enumerate(tools):
        found += [(("tools", index, *at), text) for at, text in schema_complaints(tool, "schema")]
    found += schema_complaints(options, "response_schema")
    return tuple(found)


def _repeated(name: str, items: list[dict[str, Json]]) -> Iterator[Complaint]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        if item["name"] in seen:
            yield (name, index, "name"), f"{item['name']!r} is used more than once"
        seen.add(item["name"])


def _unknown(agents: list[dict[str, Json]], tools: list[dict[str, Json]]) -> Iterator[Complaint]:
    names = {agent["name"] for agent in agents}
    known = {tool["name"] for tool in tools}
    for index, agent in enumerate(agents):
        for place, name in enumerate(agent["tools"]):
            if name not in known:
                yield ("agents", index, "tools", place), f"names the missing tool {name[:100]!r}"
        for place, name in enumerate(agent["handoffs"]):
            at = ("agents", index, "handoffs", place)
            if name == agent["name"]:
                yield at, f"names the agent {name!r} itself"
            elif name not in names:
                yield at, f"names the missing agent {name[:100]!r}"


def _texts(options: Options) -> tuple[Text, ...]:
    texts = [Text(("prompt",), TEMPLATE, options["prompt"])]
    texts += [
        Text((name,), TEMPLATE, options[name])
        for name in ("system_prompt", "thread_id")
        if options.get(name) is not None
    ]
    texts += [
        Text(("agents", index, "system_prompt"), TEMPLATE, agent["system_prompt"])
        for index, agent in enumerate(options["agents"])
    ]
    if options.get("history_key") is not None:
        texts.append(Text(("history_key",), PATH, options["history_key"]))
    return tuple(texts)


def _more_fields(options: Options) -> tuple[Place, ...]:
    name = options.get("history_key")
    return () if name is None else ((("history_key",), name),)


def places(options: Options) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """(place, source id, kind it must have) of everything that names a source; of any shape."""
    if isinstance(options.get("source"), str):
        yield ("source",), options["source"], "llm"
    for index, agent in enumerate(_objects(options.get("agents"))):
        if isinstance(agent.get("source"), str):
            yield ("agents", index, "source"), agent["source"], "llm"
    for index, tool in enumerate(_objects(options.get("tools"))):
        kind = tool.get("type")
        wanted = SOURCE_OF_TOOL.get(kind) if isinstance(kind, str) else None
        if wanted and isinstance(tool.get("ref"), str):
            yield ("tools", index, "ref"), tool["ref"], wanted


def _objects(items: Json) -> list[dict[str, Json]]:
    found = items if isinstance(items, list) else []
    return [item if isinstance(item, dict) else {} for item in found]


def _sources(options: Options) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for _, name, _ in places(options)))


def _needs_source(options: Options) -> bool:
    if not isinstance(options.get("agents") or [], list):
        return False
    agents = _objects(options.get("agents"))
    return not options.get("source") and not (agents and all(a.get("source") for a in agents))


KIND = NodeKind(
    type="agent",
    options=AgentOptions,
    effects="idempotent",
    placement="io",
    field="text_result",
    available=False,
    always_writes=True,
    more_fields=_more_fields,
    texts=_texts,
    sources=_sources,
    needs_source=_needs_source,
    complaints=_complaints,
)
