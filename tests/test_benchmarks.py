"""The benchmark suite measures, prints its table, and does not count what a contender's store denies."""

import asyncio
import contextlib
import itertools
import sys
from pathlib import Path

import pytest

from agentflow.api.bodies import order
from agentflow.spec.check import check
from benchmarks.suite import goals, recovery, report
from benchmarks.suite.contender import Command, ContenderFailed, ours, started
from benchmarks.suite.contenders import agentflow_http, wire
from benchmarks.suite.profile import own_times
from benchmarks.suite.profile import parsed as stacks_of
from benchmarks.suite.rounds import Rows
from benchmarks.suite.usage import Usage
from benchmarks.suite.workloads import Sample, is_void, workloads

USED = Usage(0.2, 0.1, 0.0, 1.0, 4096, 8192)
CHAIN = next(each for each in workloads() if each.name == "chain10/64")


def sample(**answer: object) -> Sample:
    told = {"seconds": 1.0, "latencies_s": [0.1], "steps": 20, "persisted": 20}
    return Sample({**told, **answer}, USED)


async def test_suite_asks_asyncio_and_the_strict_engine(dsn: str, tmp_path: Path):
    rows = Rows()
    for name in ("asyncio_floor", "agentflow_strict"):
        async with started(ours(name), tmp_path / name, dsn) as contender:
            rows.facts[name] = contender.facts
            answer, usage = await contender.ask("chain10", {"executions": 2, "in_flight": 2}, [])
            rows.take(name, CHAIN, Sample(answer, usage))
    figures = rows.medians()["chain10/64"]
    assert rows.trouble == {}
    assert figures["asyncio_floor"]["steps_per_s"] > figures["agentflow_strict"]["steps_per_s"] > 0
    assert figures["agentflow_strict"]["rows_per_step"] == pytest.approx(2.3)
    result = {"figures": rows.medians(), "systems": rows.facts, "trouble": {}, "full": False}
    assert "| agentflow_strict |" in report.systems_table(result)
    assert "chain10, 64 in flight, strict, in-process" in report.aims_table(result)


def test_row_is_void_when_the_store_holds_another_number_of_steps():
    rows = Rows()
    rows.take("somebody", CHAIN, sample())
    rows.take("somebody", CHAIN, sample(persisted=19))
    assert rows.trouble == {("somebody", "chain10/64"): "void: 19 steps persisted of 20"}
    assert rows.medians() == {}
    assert is_void({"steps": 20, "persisted": None}) == ""


async def test_contender_that_ends_is_reported_with_what_it_said(tmp_path: Path):
    broken = Command("broken", (sys.executable, "-c", "raise SystemExit('no server here')"))
    with pytest.raises(ContenderFailed, match="no server here"):
        async with started(broken, tmp_path, "postgresql://nowhere/"):
            pass


def test_aims_say_which_figure_is_missing():
    medians = {"chain10/64": {goals.STRICT: {"steps_per_s": 6_000.0}}}
    line, *others = goals.judged(medians, full=False)
    assert line.floor is None and "chain10/64 of restate" in line.missing
    assert all(other.value is None and other.missing for other in others)
    medians["chain10/64"][goals.RESTATE] = {"steps_per_s": 1_490.0}
    medians["rows/64"] = {"limits": {"rows_per_s": 30_000.0}}
    line, *_ = goals.judged(medians, full=False)
    assert line.reached(line.floor) is True and line.reached(line.goal) is False


def test_report_begins_with_what_we_lose_and_says_who_keeps_nothing():
    times = {goals.STRICT: 9.0, goals.RELAXED: 5.0, "kept": 8.0, "forgets": 2.0, "slower": 10.0}
    figures = {"chain10/1": {name: {"p50_ms": value} for name, value in times.items()}}
    kept = {"kept": "a row", "forgets": "nothing", "slower": "a row"}
    systems = {name: {"persisted_before_next_step": what} for name, what in kept.items()}
    assert report.lost({"figures": figures, "systems": systems}).splitlines() == [
        "- chain10/1, chain10: p50, ms: kept 8, ours 9, relaxed 5",
        "- chain10/1, chain10: p50, ms: forgets 2, ours 9, relaxed 5 (it keeps nothing)",
    ]


def test_report_names_what_was_left_out_and_what_is_of_fewer_rounds():
    result = {
        "trouble": {"environment": {"restate": "run this"}},
        "unsupported": {},
        "counted": {"chain10/1": {"dbos": 2, "celery": 3}},
        "rounds": 3,
    }
    assert report.trouble(result).splitlines() == [
        "- environment, restate: run this",
        "- chain10/1, dbos: the median is of 2 rounds of 3",
    ]


def test_order_of_the_http_workload_is_one_that_the_api_takes():
    taken = order(agentflow_http.ORDER)
    assert check(taken.workflow).errors == ()
    assert taken.initial_state == {"user_input": "go"}


async def test_client_goes_on_where_a_connection_ends_with_its_answer():
    """As HAProxy does while it hands over to its successor."""
    answers, connections = itertools.count(1), itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        next(connections)
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"!"):
                body, ends = b"%d" % next(answers), next(endings)
                last = b"connection: close\r\n" * ends
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n" % len(body) + last)
                writer.write(b"\r\n" + body)
                if ends:
                    break
        writer.close()

    endings = itertools.cycle((False, True, False))
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        done = await wire.many(port, wire.post(port, "/", b"!"), 9, 1)
    assert done["bodies"] == [b"%d" % number for number in range(1, 10)]
    assert len(done["latencies_s"]) == 9
    assert next(connections) == 4


def test_recovery_reads_only_whole_lines(tmp_path: Path):
    log = tmp_path / "steps.log"
    log.write_text("1.5 e 0\n2.5 e 1\n3.")
    assert recovery.lines(log) == [recovery.Line(1.5, "e", "0"), recovery.Line(2.5, "e", "1")]
    assert recovery.lines(tmp_path / "absent") == []


def test_profile_counts_the_innermost_function():
    waiting = "Thread._bootstrap (threading.py:1);wait (c.py:2) 9\n"
    stacks = stacks_of("main (a.py:1);work (b.py:7) 3\nmain (a.py:2) 1\n" + waiting)
    assert own_times(stacks) == {"work (b.py)": 3, "main (a.py)": 1}


def test_report_goes_between_the_markers_of_a_page(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("no place")
    with pytest.raises(ValueError, match="no lines"):
        report.write_into(page, {})
