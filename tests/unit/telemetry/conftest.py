"""A plan of two nodes and the events of one execution of it."""

from collections.abc import Callable

import pytest

from agentflow.execution.events import (
    ErrorInfo,
    Event,
    ExecutionCompleted,
    ExecutionCreated,
    ExecutionStarted,
    ModelCall,
    StepCompleted,
    StepRetrying,
    StepStarted,
    Usage,
    Worker,
)
from agentflow.execution.journal import Recorded
from agentflow.ids import new_id, to_uuid
from agentflow.plan.plan import Plan, PlanNode, Retry, Settings


def _node(index: int, node_id: str, node_type: str) -> PlanNode:
    return PlanNode(
        index=index,
        id=node_id,
        type=node_type,
        options={},
        rank=index,
        placement="io",
        effects="idempotent",
        retry=Retry(),
    )


def _plan(name: str | None = "greeting") -> Plan:
    return Plan(
        content_hash="hash",
        name=name,
        nodes=(_node(0, "start", "input"), _node(1, "write", "llm")),
        edges=(),
        start=0,
        order=(0, 1),
        fields=(),
        sources=(),
        settings=Settings(),
    )


def _accepted_at(execution_id: str) -> float:
    return (to_uuid(execution_id, "exec").int >> 80) / 1000


def _recorded(events: list[Event], first: int = 1) -> list[Recorded]:
    return [Recorded(seq=first + place, event=event) for place, event in enumerate(events)]


@pytest.fixture
def plan() -> Plan:
    return _plan()


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    return _plan


@pytest.fixture
def recorded() -> Callable[..., list[Recorded]]:
    """Events as the journal numbers them."""
    return _recorded


@pytest.fixture
def accepted_at() -> Callable[[str], float]:
    return _accepted_at


@pytest.fixture
def execution_id() -> str:
    return new_id("exec")


@pytest.fixture
def life(execution_id: str) -> list[Recorded]:
    """Accepted, one inline step, one model step that was tried twice, completed after 4 seconds."""
    at = _accepted_at(execution_id)
    call = ModelCall(
        source="gpt", provider="openai", model="m1", usage=Usage(10, 20, estimated=False), cost=0.25
    )
    return _recorded(
        [
            ExecutionCreated(
                at=at,
                execution_id=execution_id,
                tenant="acme",
                content_hash="hash",
                initial_state={"user_input": "the secret question"},
            ),
            ExecutionStarted(at=at),
            StepCompleted(at=at + 0.5, step="start", started_at=at + 0.25, taken=(0,)),
            StepStarted(at=at + 1, step="write"),
            StepRetrying(
                at=at + 2,
                step="write",
                error=ErrorInfo("ProviderUnavailable", "502 for the secret question", True),
                delay_s=0.5,
                calls=(ModelCall("gpt", "openai", "m1", Usage(5, 0)),),
            ),
            StepStarted(at=at + 2.5, step="write", attempt=2),
            StepCompleted(
                at=at + 3,
                step="write",
                attempt=2,
                result={"text": "the secret answer"},
                delta={"text_result": "the secret answer"},
                calls=(call,),
                worker=Worker(pid=42, node="n1", pool="af/io/n1", seconds=0.4),
            ),
            ExecutionCompleted(at=at + 4, output="the secret answer"),
        ]
    )
