"""What a kind of work is: the Node contract and the context that a node may touch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec
from typing_extensions import TypeIs

from agentflow.errors import NotSupported, SourceNotFound
from agentflow.execution.events import Blob, ModelCall
from agentflow.execution.keys import idempotency_key
from agentflow.nodes.blobs import Blobs, StepBlob, read_blob, step_blob
from agentflow.plan.plan import Field, PlanNode, PlanSource
from agentflow.sources.base import Source

Json = Any


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a step produced. ``delta``: the state fields it writes. ``result``: kept under outputs."""

    result: Json = None
    delta: dict[str, Json] = {}


class StepContext:
    """Everything a node's code may touch during one attempt.

    ``view`` is a read-only record of the state fields that the node reads (plus ``outputs`` and
    ``execution``), folded from its causal past. ``record`` is told of every billed call at once, so
    that its cost is kept when the attempt fails later. ``epoch`` is the owner's fence.
    """

    def __init__(
        self,
        *,
        node: PlanNode,
        view: Mapping[str, Json],
        fields: Mapping[str, Field],
        tenant: str,
        execution_id: str,
        step: str,
        attempt: int = 1,
        generation: int = 0,
        epoch: int = 0,
        deadline: float | None = None,
        open_source: Callable[[str], Awaitable[Source]] | None = None,
        emit: Callable[[str], None] | None = None,
        keep: Blobs | None = None,
    ) -> None:
        self.node = node
        self.options = node.options
        self.view = view
        self.fields = fields
        self.tenant = tenant
        self.execution_id = execution_id
        self.step = step
        self.attempt = attempt
        self.generation = generation
        self.epoch = epoch
        self.deadline = deadline
        self.calls: list[ModelCall] = []
        self.blobs: list[Blob] = []
        self._open_source = open_source
        self._emit = emit
        self._keep = keep

    def key(self, call_index: int = 0) -> str:
        """The idempotency key of the step's call with this index: the same in every attempt."""
        return idempotency_key(
            self.tenant, self.execution_id, self.step, call_index, self.generation
        )

    def emit(self, text: str) -> None:
        """Pass a piece of the reply to whoever watches; lost pieces are no loss."""
        if self._emit is not None:
            self._emit(text)

    def record(self, call: ModelCall) -> None:
        """Keep what a call used and cost, whatever becomes of the attempt."""
        self.calls.append(call)

    def blob(self, mime_type: str) -> AbstractAsyncContextManager[StepBlob]:
        """Content too large for the journal, written piece by piece; once kept it is named with the
        step's result. Nothing is left where the block ends before. Raises StepError."""
        return step_blob(self._keep, self.tenant, mime_type, self.blobs)

    async def read(self, uri: str, limit: int) -> bytes:
        """The content of a blob of the tenant's, named by its address. Raises StepError."""
        return await read_blob(self._keep, self.tenant, uri, limit)

    async def source(self, source_id: str) -> Source:
        """The open connection of this id. Raises SourceNotFound, MissingCredential."""
        if self._open_source is None:
            raise SourceNotFound(f"Node {self.node.id!r} may not use sources here")
        return await self._open_source(source_id)


class Node(Protocol):
    """A kind of work that leaves the coordinator. One instance serves every attempt of a worker."""

    async def run(self, context: StepContext) -> StepResult:
        """Do the work once. Raises StepError."""
        ...


class InlineNode(Protocol):
    """A cheap pure kind of work, done inside the coordinator's loop."""

    def run_inline(self, context: StepContext) -> StepResult:
        """Do the work once, without waiting for anything. Raises StepError."""
        ...


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """What a step waits for. ``kind``: human, timer or signal. ``until``: seconds since the epoch;
    ``after_s``: seconds from now; neither: for ever. ``signal``: its name; ``prompt``, ``form`` (a JSON
    Schema) and ``assignees``: what a person is asked, and who."""

    kind: str
    until: float | None = None
    after_s: float | None = None
    signal: str = ""
    prompt: str = ""
    form: Json = None
    assignees: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a wait was answered with, by whom, and when (seconds since the epoch)."""

    data: Json
    by: str
    at: float


class WaitingNode(Protocol):
    """A kind of work that waits for a person, a time or a signal. It holds no worker: what is called
    here is cheap and pure, and done inside the coordinator's loop."""

    def pause(self, context: StepContext) -> Pause:
        """What the step waits for, when it begins. Raises StepError."""
        ...

    def answered(self, context: StepContext, answer: Answer) -> StepResult:
        """What the step gives once it is answered."""
        ...

    def expired(self, context: StepContext, at: float) -> StepResult:
        """What the step gives when the time has come. Raises StepTimeout where it waited in vain."""
        ...


AnyNode = Node | InlineNode | WaitingNode


def is_waiting(code: AnyNode) -> TypeIs[WaitingNode]:
    """Whether this kind of work waits for something outside."""
    return hasattr(code, "pause")


def is_inline(code: AnyNode, placement: str) -> TypeIs[InlineNode]:
    """Whether a node placed there is done by ``run_inline``. The placement decides for work that can
    be done either way; cheap work is done so wherever it is placed."""
    return hasattr(code, "run_inline") and (placement == "inline" or not hasattr(code, "run"))


class NodeSet:
    """The kinds of work of one process, by node type. Registration is O(1) and may happen at run time."""

    def __init__(self, nodes: Mapping[str, AnyNode]) -> None:
        self._nodes = dict(nodes)

    def of_type(self, node_type: str) -> AnyNode:
        """The node implementation of this type. Raises NotSupported."""
        try:
            return self._nodes[node_type]
        except KeyError:
            raise NotSupported(f"Nodes of type {node_type!r} cannot be executed yet") from None


OpenSource = Callable[[PlanSource, str], Awaitable[Source]]
"""Opens, or finds open, the connection of a source for a tenant; raises a StepError."""
