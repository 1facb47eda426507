"""What an author writes, as models: WorkflowSpec and its parts.

Models are frozen; unknown fields are kept. They describe the canonical spelling (see
:func:`normalize`), so validate a normalised document.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from agentflow.spec.normal import content_hash, normalize

__all__ = [
    "Bandwidth",
    "EdgeSpec",
    "NodeSpec",
    "QueueSpec",
    "ResourcesSpec",
    "RetrySpec",
    "SettingsSpec",
    "SourceSpec",
    "StateFieldSpec",
    "SubQueue",
    "WorkflowSpec",
    "content_hash",
    "normalize",
]

Json = Any
ID_PATTERN = r"^[A-Za-z0-9_.-]{1,100}$"
RESERVED_IDS = ("end", "__end__", "__start__")
SPEC_VERSION = "1"

Id = Annotated[str, Field(pattern=ID_PATTERN)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


def _on_error(value: Json) -> Json:
    if value in ("fail", "continue", "skip"):
        return value
    if isinstance(value, dict) and set(value) == {"goto"} and isinstance(value["goto"], str):
        return value
    raise ValueError("expected 'fail', 'continue', 'skip' or {\"goto\": node}")


def _join(value: Json) -> Json:
    if value in ("all", "any", "first_success"):
        return value
    if isinstance(value, dict) and set(value) == {"n_of"}:
        count = value["n_of"]
        if isinstance(count, int) and not isinstance(count, bool) and count >= 1:
            return value
    raise ValueError("expected 'all', 'any', 'first_success' or {\"n_of\": whole number >= 1}")


def _targets(value: Json) -> Json:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value and all(isinstance(t, str) and t for t in value):
        return value
    raise ValueError("expected a node id or a non-empty list of node ids")


def _object(key: str, of: dict[str, Json]) -> dict[str, Json]:
    return {
        "type": "object",
        "properties": {key: of},
        "required": [key],
        "additionalProperties": False,
    }


_ID = {"type": "string", "minLength": 1}
OnError = Annotated[
    Any,
    PlainValidator(_on_error),
    WithJsonSchema({"anyOf": [{"enum": ["fail", "continue", "skip"]}, _object("goto", _ID)]}),
]
Join = Annotated[
    Any,
    PlainValidator(_join),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["all", "any", "first_success"]},
                _object("n_of", {"type": "integer", "minimum": 1}),
            ]
        }
    ),
]
Targets = Annotated[
    Any,
    PlainValidator(_targets),
    WithJsonSchema({"anyOf": [_ID, {"type": "array", "items": _ID, "minItems": 1}]}),
]


class SpecModel(BaseModel):
    """A part of a spec: frozen, strict about types, tolerant of unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="allow", strict=True, populate_by_name=True, defer_build=True
    )


class RetrySpec(SpecModel):
    """How often and when a failed step is tried again; delays in seconds."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = Field(
        None,
        description="Attempts in all, the first one included. Null: what the source says, else the "
        "node type's default.",
        examples=[3],
    )
    initial_s: Positive = Field(1.0, description="Delay before the second attempt.")
    multiplier: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        2.0, description="How much longer each further delay is."
    )
    max_s: Positive = Field(30.0, description="The longest delay.")
    jitter: bool = Field(
        True, description="Take a random part of each delay, so that many do not return at once."
    )


class ResourcesSpec(SpecModel):
    """What one attempt of a step needs on the cluster. Checked apart (E025)."""

    num_cpus: float | None = Field(None, description="Processor cores, 0 or more.", examples=[2])
    num_gpus: float = Field(0.0, description="GPUs: 0, a fraction below 1, or a whole number.")
    memory_mb: float | None = Field(None, description="Memory in megabytes.", examples=[512])
    labels: dict[str, str] = Field(
        {},
        description="Labels that the machine must carry, all of them.",
        examples=[{"zone": "eu-1"}],
    )


class CacheSpec(SpecModel):
    """Reuse of an earlier result with the same inputs, node content, sources and tenant."""

    ttl_s: Positive = Field(
        description="How old such a result may be, in seconds.", examples=[3600]
    )


class NodeSpec(SpecModel):
    """A vertex: one kind of work and its options."""

    id: Id = Field(
        description="Its name, unique in the workflow. end, __end__ and __start__ are reserved.",
        examples=["answer"],
    )
    type: Text = Field(description="The kind of work.")
    description: str | None = Field(None, description="Text for people; never interpreted.")
    metadata: dict[str, Json] = Field({}, description="The options of this node type.")
    timeout_s: Positive | None = Field(
        None,
        description="Limit of the whole step in seconds: waiting in queues, all attempts and the "
        "delays between them. Null: only the execution's limit.",
        examples=[60],
    )
    retry: RetrySpec | None = Field(
        None,
        description="When a failed attempt is made again. Null: what the source says, else the node "
        "type's default.",
    )
    on_error: OnError | None = Field(
        None,
        description="What happens once the last attempt failed: fail, continue, skip or "
        '{"goto": node}. Null: settings.on_error.',
        examples=["skip", {"goto": "apologise"}],
    )
    effects: Literal["pure", "idempotent", "once"] | None = Field(
        None,
        description="How the step may be repeated when a process died in the middle of it. Null: "
        "by node type.",
    )
    resources: ResourcesSpec | None = Field(
        None, description="What an attempt needs on the cluster. Null: by node type."
    )
    cache: CacheSpec | None = Field(None, description="Reuse of an earlier result.")
    join: Join = Field(
        "all",
        description="Which of several incoming edges the step waits for. A node that only error "
        "edges lead to has any unless it says otherwise.",
        examples=["any", {"n_of": 2}],
    )
    queue: str | None = Field(
        None, description="Id of a queue that every step of this node passes through."
    )


class EdgeSpec(SpecModel):
    """A directed link from one node to one or several targets."""

    source: Text = Field(alias="from", description="Id of the node it leaves.", examples=["ask"])
    to: Targets = Field(
        description="Id of the node it leads to, or a list of them: one edge for each. end finishes "
        "the branch.",
        examples=["answer", ["left", "right"], "end"],
    )
    condition: Text | None = Field(
        None,
        description="When it is taken: a CEL expression that gives true or false, the name of a "
        "state field to dispatch on, or else. Null: always.",
        examples=["intent == 'billing'", "intent", "else"],
    )
    default: bool = Field(False, description='The same as "condition": "else".')
    key: str | None = Field(
        None,
        description="In a dispatch: the value of the field that takes this edge, for every target "
        "of it. Null: the target's id.",
    )
    queue: str | None = Field(
        None, description="Id of a queue through which the target is entered along this edge."
    )


class Bandwidth(SpecModel):
    """Limits of a queue; absent means unlimited, but measured."""

    max_messages_per_second: Count | None = Field(
        None, description="Steps that start in a second (token bucket).", examples=[10]
    )
    max_requests_per_minute: Count | None = Field(
        None, description="Requests in any rolling minute.", examples=[600]
    )
    max_tokens_per_minute: Count | None = Field(
        None, description="Tokens of language models in any rolling minute.", examples=[100_000]
    )
    max_cost_per_hour: Positive | None = Field(
        None, description="US dollars in any rolling hour.", examples=[5]
    )
    max_concurrent: Count | None = Field(None, description="Steps running at once.", examples=[8])
    burst_size: Count | None = Field(
        None,
        description="Depth of the bucket of max_messages_per_second. Null: the rate of one second.",
    )
    adaptive: bool = Field(
        False, description="Lower the rate after an answer of 429, and raise it slowly again."
    )


class SubQueue(SpecModel):
    """A weighted share of a queue."""

    id: Id = Field(description="Its name, unique in the queue.")
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        description="Its share, relative to the other sub-queues; not all may be 0.", examples=[0.5]
    )
    match: str | None = Field(
        None,
        description="A CEL expression: a step joins the first sub-queue for which it is true. Null: "
        "accepts every step.",
        examples=["user_input.size() > 1000"],
    )


class QueueSpec(SpecModel):
    """A shared limit that steps pass through on their way from one node to another."""

    id: Id = Field(description="Its name, unique in the workflow.")
    source: Text = Field(alias="from", description="Id of the node whose edge it stands on.")
    to: Text = Field(description="Id of the node that this edge leads to.")
    bandwidth: Bandwidth | None = Field(
        None, description="Its limits. Null: none, but it is measured."
    )
    sub_queues: list[SubQueue] | None = Field(None, description="Weighted shares of it.")
    shared: bool = Field(
        True, description="Whether the same id in other workflows of the tenant is the same limit."
    )


class SourceSpec(SpecModel):
    """A connection to a model, database or service; ``config`` is checked by kind and provider."""

    id: Id = Field(description="The name by which nodes refer to it.", examples=["small"])
    kind: Text = Field(description="What it connects to.")
    config: dict[str, Json] = Field(
        {},
        description="How to connect, by kind and provider. Names of credentials, never credentials.",
    )
    name: str | None = Field(None, description="Text for people, of a stored source.")


class StateFieldSpec(SpecModel):
    """A state field beyond the built-in ones."""

    type: Literal["string", "int", "number", "bool", "list", "object", "any"] = Field(
        "any", description="What it holds."
    )
    default: Json = Field(None, description="Its value before any step wrote it.")
    merge: Literal["last", "first", "sum", "concat", "merge", "max", "min"] | None = Field(
        None, description="How the values of several steps become one. Null: last."
    )
    description: str | None = Field(None, description="Text for people.")


class BudgetSpec(SpecModel):
    """A cap of an execution; ``soft`` only warns."""

    max_cost_usd: Positive | None = Field(None, description="US dollars.", examples=[0.5])
    max_tokens: Count | None = Field(
        None, description="Tokens of language models.", examples=[50_000]
    )
    soft: bool = Field(False, description="Warn only, instead of refusing the call.")


class SettingsSpec(SpecModel):
    """Execution-wide options; times in seconds."""

    timeout_s: Positive = Field(
        3600.0,
        description="Limit of the execution's clock, which stops only while every open step waits "
        "for a person, a timer or a signal.",
    )
    max_iterations: Count = Field(25, description="How often any node of a loop may be visited.")
    max_parallel: Count = Field(1000, description="Steps of one execution running at once.")
    on_error: OnError = Field(
        "fail", description="What nodes do that set no on_error of their own."
    )
    budget: BudgetSpec | None = Field(None, description="A cap that is checked before each call.")
    retention_days: Count = Field(90, description="Age at which the record is erased.")
    priority: Annotated[int, Field(ge=1, le=5)] = Field(
        3, description="Order within the tenant's share; 1 is the most urgent."
    )
    deadline_s: Positive | None = Field(
        None, description="Wanted finish time in seconds from the start; not a time limit."
    )
    durability: Literal["strict", "relaxed", "none"] = Field(
        "strict",
        description="strict: a result is committed before anything it releases starts. relaxed: "
        "events are written behind within milliseconds. none: only acceptance and outcome are kept.",
    )


class ChatSpec(SpecModel):
    """How a chat request becomes input and the result a reply."""

    input: str | None = Field(None, description="The state field that takes the message.")
    output: str | None = Field(None, description="The state field that is the reply.")


class ExposeSpec(SpecModel):
    """Opt-in to be called as a tool or as a chat model."""

    mcp: bool = Field(False, description="Offer the workflow as an MCP tool.")
    chat: ChatSpec | None = Field(
        None, description="Offer it as a model of the chat completions API."
    )


class WorkflowSpec(SpecModel):
    """A workflow: the whole document."""

    nodes: Annotated[list[NodeSpec], Field(min_length=1)] = Field(
        description="The vertices. Their order breaks ties in canonical order."
    )
    start_node: str = Field(description="Id of the node that is executed first.", examples=["ask"])
    edges: list[EdgeSpec] = Field([], description="The links between nodes.")
    queues: list[QueueSpec] = Field([], description="Limits that steps pass through.")
    sources: list[SourceSpec] = Field(
        [], description="Connections of this workflow; one hides a stored source of the same id."
    )
    name: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] | None = Field(
        None, description="What people call it.", examples=["support triage"]
    )
    description: str | None = Field(None, description="Text for people; never interpreted.")
    version: str = Field(
        "1.0.0", description="The author's own label, apart from the number of the stored version."
    )
    metadata: dict[str, Json] = Field({}, description="Free; kept, never interpreted.")
    state: dict[str, StateFieldSpec] = Field(
        {}, description="State fields beyond the built-in ones, by name."
    )
    input_schema: dict[str, Json] | bool | None = Field(
        None, description="A JSON Schema that the initial state must fit before anything starts."
    )
    output: dict[str, str] | None = Field(
        None,
        description="The published result: name to ${expression}. Null: final_output, else the "
        "whole state.",
        examples=[{"answer": "${final_output}"}],
    )
    settings: SettingsSpec = Field(
        SettingsSpec.model_construct(), description="Options of the whole execution."
    )
    expose: ExposeSpec = Field(
        ExposeSpec.model_construct(), description="Opt-in to be called as a tool or a chat model."
    )
    spec_version: str = Field(
        SPEC_VERSION, description="Version of this format; a newer one is refused."
    )
