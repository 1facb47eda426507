"""Pools of real worker processes: placement, batching, streaming, loss, cancellation."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from agentflow.distributed.cluster import Cluster
from agentflow.distributed.placement import RESERVE
from agentflow.engine.workers import Done, Failed
from agentflow.ids import new_id
from agentflow.plan.plan import Resources
from tests.cluster.conftest import NAMESPACE, OPENERS, Gate, Inbox, attempt, described, poll

pytestmark = pytest.mark.cluster

IO = "af/io/127.0.0.1"


async def done(inbox: Inbox, sent: Any) -> Done:
    end = await inbox.end(sent)
    assert isinstance(end, Done), end
    return end


async def test_workers_do_an_attempt_and_say_where(workers: Any, inbox: Inbox) -> None:
    sent = attempt("echo", "a", view={"text": "hello", "big": 2**80})
    workers.dispatch([sent])
    end = await done(inbox, sent)
    assert end.result == {"text": "hello", "big": 2**80}
    assert end.delta == {"seen": "a"}
    assert (end.worker.pool, end.worker.node) == (IO, "127.0.0.1")
    assert end.worker.pid not in (0, os.getpid())


async def test_workers_run_on_the_gpu_share_and_label_that_the_node_asks_for(
    workers: Any, inbox: Inbox
) -> None:
    resources = Resources(num_gpus=0.25, labels=(("zone", "eu"),))
    sent = attempt("where", resources=resources)
    plain = attempt("where")
    workers.dispatch([sent, plain])
    end = await done(inbox, sent)
    assert end.worker.pool == "af/pool/gpu=0.25,zone=eu"
    assert end.result["cuda"] == "0"
    assert end.result["labels"]["zone"] == "eu"
    assert end.result["resources"]["GPU"] == 0.25
    assert not (await done(inbox, plain)).result["cuda"]


async def test_workers_do_four_attempts_at_once_on_quarters_of_one_gpu(
    workers: Any, inbox: Inbox, gate: Gate
) -> None:
    resources = Resources(num_gpus=0.25)
    sent = [attempt("gate", f"q{i}", resources=resources, port=gate.port) for i in range(5)]
    workers.dispatch(sent)
    await gate.arrival("q0", "q1", "q2", "q3")
    for quarter in range(4):
        gate.tell(f"q{quarter}", "ok")
    await gate.arrival("q4")
    gate.tell("q4", "ok")
    pids = {(await done(inbox, each)).worker.pid for each in sent}
    assert len(pids) == 4


async def test_workers_send_one_call_per_pool_and_tick(
    workers: Any, inbox: Inbox, gate: Gate
) -> None:
    first = attempt("echo")
    workers.dispatch([first])
    await done(inbox, first)
    before = await described(IO)
    sent = [attempt("echo") for _ in range(60)]
    for each in sent:
        workers.dispatch([each])
    for each in sent:
        await done(inbox, each)
    after = await described(IO)
    assert after["attempts"] - before["attempts"] == 60
    assert after["batches"] - before["batches"] == 1


async def test_workers_report_a_finished_attempt_while_a_slow_one_goes_on(
    workers: Any, inbox: Inbox, gate: Gate
) -> None:
    slow, quick = attempt("gate", "slow", port=gate.port), attempt("echo")
    workers.dispatch([slow, quick])
    await gate.arrival("slow")
    await done(inbox, quick)
    gate.tell("slow", "at last")
    assert (await done(inbox, slow)).result == "at last"


async def test_workers_pass_pieces_on_in_order_and_gathered(workers: Any, inbox: Inbox) -> None:
    sent = attempt("talk")
    workers.dispatch([sent])
    end = await done(inbox, sent)
    deltas = inbox.deltas(sent)
    assert "".join(delta.text for delta in deltas) == end.result
    assert [delta.offset for delta in deltas] == [
        sum(len(earlier.text) for earlier in deltas[:index]) for index in range(len(deltas))
    ]
    assert len(deltas) < 50
    assert inbox.reports[-1] == end


async def test_workers_report_a_lost_worker_once_and_go_on_with_its_successor(
    workers: Any, inbox: Inbox, gate: Gate
) -> None:
    sent = [attempt("gate", f"lost{i}", port=gate.port) for i in range(3)]
    workers.dispatch(sent)
    await gate.arrival("lost0", "lost1", "lost2")
    pid = (await described(IO))["pid"]
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    for each in sent:
        end = await inbox.end(each)
        assert isinstance(end, Failed)
        assert (end.error.type, end.error.retryable) == ("WorkerLost", True)
        assert end.worker.pid == pid
    assert time.monotonic() - killed < 1.5
    again = attempt("echo")
    workers.dispatch([again])
    assert (await done(inbox, again)).worker.pid != pid
    assert len(inbox.reports) == 4


async def test_reserve_does_what_comes_while_the_successor_of_a_dead_worker_starts(
    workers: Any, inbox: Inbox
) -> None:
    async def reserve() -> bool:
        try:
            return bool(await described(RESERVE))
        except ValueError:  # it is made once another worker is up
            return False

    await poll(reserve, 30)
    first = attempt("where")
    workers.dispatch([first])
    assert (await done(inbox, first)).worker.pool == IO
    os.kill((await described(IO))["pid"], signal.SIGKILL)
    again = attempt("where")
    workers.dispatch([again])
    if isinstance(end := await inbox.end(again), Failed):  # it left before the death was seen
        workers.dispatch([again := attempt("where")])
        end = await inbox.end(again)
    assert isinstance(end, Done) and end.worker.pool == RESERVE


async def test_workers_report_lost_attempts_of_a_reserving_pool(
    workers: Any, inbox: Inbox, gate: Gate
) -> None:
    resources = Resources(num_cpus=0.5)
    sent = attempt("gate", "lost", resources=resources, port=gate.port)
    workers.dispatch([sent])
    await gate.arrival("lost")
    os.kill((await described("af/pool/cpu=0.5"))["pid"], signal.SIGKILL)
    end = await inbox.end(sent)
    assert isinstance(end, Failed)
    assert end.error.type == "WorkerLost"
    again = attempt("where", resources=resources)
    workers.dispatch([again])
    assert (await done(inbox, again)).result["resources"]["CPU"] == 0.5


@pytest.mark.parametrize(
    "resources",
    [Resources(num_gpus=2), Resources(labels=(("zone", "us"),)), Resources(memory_mb=10**9)],
)
async def test_workers_refuse_what_no_node_could_ever_do(
    workers: Any, inbox: Inbox, resources: Resources
) -> None:
    sent = attempt("echo", resources=resources)
    workers.dispatch([sent])
    end = await inbox.end(sent)
    assert isinstance(end, Failed)
    assert (end.error.type, end.error.retryable) == ("ResourceExceeded", False)
    assert "No node of the cluster can satisfy" in end.error.message
    assert "node 127.0.0.1 has cpu=4, gpu=1" in end.error.message


async def test_workers_wait_for_what_is_busy(workers: Any, inbox: Inbox, gate: Gate) -> None:
    resources = Resources(num_gpus=0.75)
    holder = attempt("gate", "holder", resources=resources, port=gate.port)
    waiter = attempt("echo", resources=resources)
    workers.dispatch([holder, waiter])
    await gate.arrival("holder")
    assert not inbox.reports
    gate.tell("holder", "free")
    await done(inbox, waiter)


async def test_workers_cancel_running_and_waiting_attempts_once(
    workers: Any, inbox: Inbox, gate: Gate
) -> None:
    resources = Resources(num_gpus=0.75)
    running = attempt("gate", "running", port=gate.port)
    holder = attempt("gate", "holder", resources=resources, port=gate.port)
    waiting = attempt("gate", "waiting", resources=resources, port=gate.port)
    workers.dispatch([running, holder, waiting])
    await gate.arrival("running", "holder")
    keys = [each.id for each in (running, holder, waiting)]
    workers.cancel(keys)
    workers.cancel(keys)
    for each in (running, holder, waiting):
        end = await inbox.end(each)
        assert isinstance(end, Failed)
        assert end.error.type == "Cancelled"
    await gate.departure("running")
    await gate.departure("holder")
    assert len(inbox.reports) == 3


async def test_workers_report_a_cancelled_attempt_whose_code_cannot_be_interrupted(
    workers: Any, inbox: Inbox
) -> None:
    first = attempt("echo", placement="cpu")
    workers.dispatch([first])
    assert (await done(inbox, first)).worker.pool == "af/cpu/127.0.0.1"
    busy = attempt("busy", placement="cpu", seconds=3)
    workers.dispatch([busy])
    workers.cancel([busy.id])
    end = await inbox.end(busy, timeout_s=2.5)
    assert isinstance(end, Failed)
    assert end.error.type == "Cancelled"


async def test_workers_fail_attempts_when_the_pool_cannot_open(
    cluster: Cluster, inbox: Inbox
) -> None:
    from agentflow.distributed.dispatch import RayWorkers

    opened = RayWorkers("test/refused", f"{OPENERS}:refuse_to_open", NAMESPACE)
    opened.open(inbox.receive)
    sent = attempt("echo", resources=Resources(num_cpus=0.25))
    opened.dispatch([sent])
    end = await inbox.end(sent)
    assert isinstance(end, Failed)
    assert "these tests want it to refuse" in end.error.message
    await opened.close()


async def test_workers_of_two_coordinators_share_the_pools(
    workers: Any, inbox: Inbox, cluster: Cluster
) -> None:
    from agentflow.distributed.dispatch import RayWorkers

    others = Inbox()
    second = RayWorkers("test/second", f"{OPENERS}:open_performer", NAMESPACE)
    second.open(others.receive)
    mine, theirs = attempt("where"), attempt("where")
    workers.dispatch([mine])
    second.dispatch([theirs])
    assert (await done(inbox, mine)).worker.pid == (await done(others, theirs)).worker.pid
    assert [report.id for report in inbox.reports] == [mine.id]
    await second.close()


async def test_coordinator_whose_attempt_another_one_adopted_hears_that_it_lost_it(
    workers: Any, inbox: Inbox, gate: Gate, cluster: Cluster
) -> None:
    """Should the other one be the wrong one, the owner must not wait for a report for ever."""
    from agentflow.distributed.dispatch import RayWorkers

    others = Inbox()
    former = RayWorkers(new_id("test"), f"{OPENERS}:open_performer", NAMESPACE)
    others.serve(former)
    running = attempt("gate", "taken", port=gate.port)
    former.dispatch([running])
    await gate.arrival("taken")
    assert await workers.adopt([running]) == {running.id}
    end = await others.end(running)
    assert isinstance(end, Failed) and end.error.type == "WorkerLost"
    gate.tell("taken", "mine now")
    assert (await done(inbox, running)).result == "mine now"
    await former.close()


async def test_attempts_of_a_coordinator_that_left_are_adopted_by_another(
    workers: Any, inbox: Inbox, gate: Gate, cluster: Cluster
) -> None:
    """One still runs; the report of the other was never acknowledged."""
    from agentflow.distributed.dispatch import RayWorkers

    others = Inbox()
    others.keeps = True
    left = RayWorkers(new_id("test"), f"{OPENERS}:open_performer", NAMESPACE)
    others.serve(left)
    running, ended = attempt("gate", "adopted", port=gate.port), attempt("where")
    left.dispatch([running, ended])
    await gate.arrival("adopted")
    await others.end(ended)
    await left.close()
    unknown = attempt("echo")
    assert await workers.adopt([running, ended, unknown]) == {running.id, ended.id}
    gate.tell("adopted", "mine now")
    assert (await done(inbox, running)).result == "mine now"
    assert (await done(inbox, ended)).result == others.reports[0].result
    assert [report.id for report in others.reports] == [ended.id]
