"""In-process workers and the body of an attempt: exactly one report, whatever happens."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from agentflow.engine.workers import Attempt, Delta, Done, Failed, InProcessWorkers, Performer
from agentflow.errors import ProviderRejected
from agentflow.execution.events import ModelCall, Usage
from agentflow.nodes.base import NodeSet, StepContext, StepResult
from agentflow.plan.plan import PlanNode, Retry


class Scripted:
    """A node that does what its options say."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def run(self, context: StepContext) -> StepResult:
        self.begun.set()
        context.emit("he")
        context.emit("llo")
        context.record(ModelCall("s", "p", "m", Usage(1, 2)))
        match context.options["do"]:
            case "hang":
                await asyncio.Event().wait()
            case "reject":
                raise ProviderRejected("no")
            case "break":
                raise ZeroDivisionError("inside")
            case "time out":
                raise TimeoutError("inside")
            case "not json":
                return StepResult(result=object())
            case "nan":
                return StepResult(delta={"x": [float("nan")]})
            case "surrogate":
                return StepResult(result="\ud800")
            case "date":
                return StepResult(result=datetime.now(UTC))
            case "deep":
                return StepResult(result=deep())
            case "tuple":
                return StepResult(result=(1, "\x00", 2**70))
        return StepResult(result="hello", delta={"x": 1})


def deep() -> list:
    value: list = []
    for _ in range(100_000):
        value = [value]
    return value


def attempt(do: str, timeout_s: float | None = None) -> Attempt:
    node = PlanNode(
        index=0,
        id="n",
        type="scripted",
        options={"do": do},
        rank=0,
        placement="io",
        effects="pure",
        retry=Retry(),
    )
    return Attempt(
        id=f"exec_1/n/0/{do}",
        tenant="t",
        execution_id="exec_1",
        step="n",
        attempt=1,
        generation=0,
        epoch=1,
        node=node,
        view={},
        fields=(),
        sources=(),
        timeout_s=timeout_s,
    )


class Harness:
    def __init__(self) -> None:
        self.node = Scripted()
        self.closed = False
        performer = Performer(NodeSet({"scripted": self.node}), self._no_source, self._close)
        self.workers = InProcessWorkers(performer)
        self.reports: list = []
        self.ended = asyncio.Event()
        self.workers.open(self._take)

    async def _no_source(self, source, tenant):
        raise AssertionError("no source is used here")

    async def _close(self) -> None:
        self.closed = True

    def _take(self, reports) -> None:
        self.reports += reports
        if any(not isinstance(report, Delta) for report in reports):
            self.ended.set()

    async def run(self, do: str, timeout_s: float | None = None):
        self.workers.dispatch([attempt(do, timeout_s)])
        async with asyncio.timeout(5):
            await self.ended.wait()
        return self.reports[-1]


async def test_result_comes_after_its_pieces_with_what_it_cost():
    harness = Harness()
    done = await harness.run("work")
    assert isinstance(done, Done) and done.result == "hello" and done.delta == {"x": 1}
    assert [(d.offset, d.text) for d in harness.reports[:-1]] == [(0, "he"), (2, "llo")]
    assert [call.usage.total for call in done.calls] == [3]


async def test_step_error_is_reported_with_the_calls_that_were_billed():
    failed = await Harness().run("reject")
    assert isinstance(failed, Failed) and failed.error.type == "ProviderRejected"
    assert len(failed.calls) == 1


async def test_unexpected_error_names_the_node_and_is_no_crash():
    failed = await Harness().run("break")
    assert failed.error.type == "NodeFailed" and "'n'" in failed.error.message


async def test_result_that_is_not_json_is_refused():
    failed = await Harness().run("not json")
    assert failed.error.type == "NodeFailed" and "not JSON" in failed.error.message


@pytest.mark.parametrize("kind", ["nan", "surrogate", "date", "deep"])
async def test_what_json_cannot_hold_is_refused_where_it_was_made(kind):
    failed = await Harness().run(kind)
    assert isinstance(failed, Failed)
    assert failed.error.type == "NodeFailed" and "not JSON" in failed.error.message


async def test_result_is_what_the_journal_will_give_back():
    done = await Harness().run("tuple")
    assert isinstance(done, Done) and done.result == [1, "\x00", 2**70]


async def test_attempt_that_nobody_stops_ends_soon_after_its_time_with_what_it_cost():
    failed = await Harness().run("hang", timeout_s=0.05)
    assert isinstance(failed, Failed) and failed.error.type == "StepTimeout"
    assert not failed.error.retryable and len(failed.calls) == 1


async def test_timeout_inside_a_node_is_not_that_of_the_step():
    failed = await Harness().run("time out", timeout_s=60.0)
    assert failed.error.type == "NodeFailed" and "TimeoutError" in failed.error.message


async def test_cancelled_attempt_reports_once_with_what_it_cost():
    harness = Harness()
    harness.workers.dispatch([attempt("hang")])
    await harness.node.begun.wait()
    harness.workers.cancel([attempt("hang").id])
    async with asyncio.timeout(5):
        await harness.ended.wait()
    failed = harness.reports[-1]
    assert failed.error.type == "Cancelled" and len(failed.calls) == 1


async def test_attempt_cancelled_before_it_began_is_reported_too():
    harness = Harness()
    harness.workers.dispatch([attempt("hang")])
    harness.workers.cancel([attempt("hang").id])
    async with asyncio.timeout(5):
        await harness.ended.wait()
    assert [report.error.type for report in harness.reports] == ["Cancelled"]


async def test_closing_cancels_what_runs_and_closes_sources():
    harness = Harness()
    harness.workers.dispatch([attempt("hang")])
    await harness.node.begun.wait()
    await harness.workers.close()
    assert harness.closed
