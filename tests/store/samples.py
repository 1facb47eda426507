"""Events and appends as an engine would write them."""

from __future__ import annotations

import time

from agentflow.execution import events
from agentflow.execution.journal import Append, Outcome, Submission


def created(submission: Submission) -> events.ExecutionCreated:
    return events.ExecutionCreated(
        at=time.time(),
        execution_id=submission.execution_id,
        tenant=submission.tenant,
        content_hash=submission.content_hash,
        initial_state=submission.initial_state,
    )


def started() -> events.ExecutionStarted:
    return events.ExecutionStarted(at=time.time())


def step_started(step: str, attempt: int = 1) -> events.StepStarted:
    return events.StepStarted(at=time.time(), step=step, attempt=attempt)


def step_completed(step: str, result: object = None) -> events.StepCompleted:
    return events.StepCompleted(at=time.time(), step=step, result=result)


def completed(output: object = None) -> events.ExecutionCompleted:
    return events.ExecutionCompleted(at=time.time(), output=output)


def accept(submission: Submission, *more: events.Event) -> Append:
    return Append(
        execution_id=submission.execution_id,
        tenant=submission.tenant,
        first_seq=1,
        events=(created(submission), *more),
        accept=submission,
    )


def append(submission: Submission, first_seq: int, *appended: events.Event) -> Append:
    return Append(
        execution_id=submission.execution_id,
        tenant=submission.tenant,
        first_seq=first_seq,
        events=appended,
    )


def end(submission: Submission, seq: int, commands: tuple[int, ...] = ()) -> Append:
    step = {"step": "a", "node_id": "a", "generation": 0, "status": "completed", "tokens": 7}
    outcome = Outcome(
        status="completed",
        final_state={"text_result": "done"},
        output={"answer": 42},
        tokens_used=7,
        cost=0.125,
        execution_time=1.5,
        nodes_executed=1,
        ended_at=time.time(),
        steps=(step,),
    )
    return Append(
        execution_id=submission.execution_id,
        tenant=submission.tenant,
        first_seq=seq,
        events=(completed({"answer": 42}),),
        outcome=outcome,
        commands=commands,
    )
