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

    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = None
    initial_s: Positive = 1.0
    multiplier: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    max_s: Positive = 30.0
    jitter: bool = True


class ResourcesSpec(SpecModel):
    """What one attempt of a step needs on the cluster. Checked apart (E025)."""

    num_cpus: float | None = None
    num_gpus: float = 0.0
    memory_mb: float | None = None
    labels: dict[str, str] = {}


class CacheSpec(SpecModel):
    """Reuse of an earlier result for ``ttl_s`` seconds."""

    ttl_s: Positive


class NodeSpec(SpecModel):
    """A vertex: one kind of work and its options."""

    id: Id
    type: Text
    description: str | None = None
    metadata: dict[str, Json] = {}
    timeout_s: Positive | None = None
    retry: RetrySpec | None = None
    on_error: OnError | None = None
    effects: Literal["pure", "idempotent", "once"] | None = None
    resources: ResourcesSpec | None = None
    cache: CacheSpec | None = None
    join: Join = "all"
    queue: str | None = None


class EdgeSpec(SpecModel):
    """A directed link from one node to one or several targets."""

    source: Text = Field(alias="from")
    to: Targets
    condition: Text | None = None
    default: bool = False
    key: str | None = None
    queue: str | None = None


class Bandwidth(SpecModel):
    """Limits of a queue; absent means unlimited, but measured."""

    max_messages_per_second: Count | None = None
    max_requests_per_minute: Count | None = None
    max_tokens_per_minute: Count | None = None
    max_cost_per_hour: Positive | None = None
    max_concurrent: Count | None = None
    burst_size: Count | None = None
    adaptive: bool = False


class SubQueue(SpecModel):
    """A weighted share of a queue."""

    id: Id
    weight: Annotated[float, Field(ge=0, le=1)]
    match: str | None = None


class QueueSpec(SpecModel):
    """A shared limit that steps pass through on their way from one node to another."""

    id: Id
    source: Text = Field(alias="from")
    to: Text
    bandwidth: Bandwidth | None = None
    sub_queues: list[SubQueue] | None = None
    shared: bool = True


class SourceSpec(SpecModel):
    """A connection to a model, database or service; ``config`` is checked by kind and provider."""

    id: Id
    kind: Text
    config: dict[str, Json] = {}
    name: str | None = None


class StateFieldSpec(SpecModel):
    """A state field beyond the built-in ones."""

    type: Literal["string", "int", "number", "bool", "list", "object", "any"] = "any"
    default: Json = None
    merge: Literal["last", "first", "sum", "concat", "merge", "max", "min"] | None = None
    description: str | None = None


class BudgetSpec(SpecModel):
    """A cap of an execution; ``soft`` only warns."""

    max_cost_usd: Positive | None = None
    max_tokens: Count | None = None
    soft: bool = False


class SettingsSpec(SpecModel):
    """Execution-wide options; times in seconds."""

    timeout_s: Positive = 3600.0
    max_iterations: Count = 25
    max_parallel: Count = 1000
    on_error: OnError = "fail"
    budget: BudgetSpec | None = None
    retention_days: Count = 90
    priority: Annotated[int, Field(ge=1, le=5)] = 3
    deadline_s: Positive | None = None
    durability: Literal["strict", "relaxed", "none"] = "strict"


class ChatSpec(SpecModel):
    """How a chat request becomes input and the result a reply."""

    input: str | None = None
    output: str | None = None


class ExposeSpec(SpecModel):
    """Opt-in to be called as a tool or as a chat model."""

    mcp: bool = False
    chat: ChatSpec | None = None


class WorkflowSpec(SpecModel):
    """A workflow: the whole document."""

    nodes: Annotated[list[NodeSpec], Field(min_length=1)]
    start_node: str
    edges: list[EdgeSpec] = []
    queues: list[QueueSpec] = []
    sources: list[SourceSpec] = []
    name: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] | None = None
    description: str | None = None
    version: str = "1.0.0"
    metadata: dict[str, Json] = {}
    state: dict[str, StateFieldSpec] = {}
    input_schema: dict[str, Json] | bool | None = None
    output: dict[str, str] | None = None
    settings: SettingsSpec = SettingsSpec.model_construct()
    expose: ExposeSpec = ExposeSpec.model_construct()
    spec_version: str = SPEC_VERSION
