"""The adapters of other systems, as far as they can be looked at where those systems are not installed."""

import ast
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import driving, environments, servers, serving

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "peers"
ADAPTERS = sorted({peer.module for peer in environments.PEERS.values()})
CONTENDER = """
import asyncio
from contextlib import asynccontextmanager
from benchmarks.peers.serving import Contender, Unsupported, serve

async def echo(asked):
    print("a peer's own chatter")
    return {"seconds": 0.5, "latencies_s": [0.5], "steps": asked["executions"], "persisted": None}

async def never(asked):
    await asyncio.Event().wait()

async def refuse(asked):
    raise Unsupported("it has no journal")

async def fail(asked):
    raise RuntimeError("broken")

@asynccontextmanager
async def start(arguments):
    facts = {"system": "tiny", "pids": [], "folder": str(arguments.folder), "dsn": arguments.dsn}
    try:
        yield Contender(facts, {"echo": echo, "never": never, "refuse": refuse, "fail": fail})
    finally:
        (arguments.folder / "left").write_text("in order")

serve(start)
"""


class Tiny:
    """An adapter of nothing, as a process."""

    def __init__(self, folder: Path) -> None:
        script = folder / "tiny.py"
        script.write_text(CONTENDER)
        self.folder = folder / "kept"
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(script),
                "--folder",
                str(self.folder),
                "--dsn",
                "postgresql://x/y",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def tell(self, *messages: dict) -> None:
        assert self.process.stdin is not None
        for message in messages:
            self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ended_in_order(self) -> bool:
        self.process.communicate(timeout=30)
        return self.process.returncode == 0 and (self.folder / "left").exists()


@pytest.fixture
def tiny(tmp_path: Path):
    started = Tiny(tmp_path)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


def test_adapter_answers_each_request_with_one_line_of_its_own(tiny: Tiny):
    ready = tiny.hear()
    assert ready["ready"] is True
    assert (ready["folder"], ready["dsn"]) == (str(tiny.folder), "postgresql://x/y")
    asked = [
        {"id": 1, "workload": "echo", "executions": 7},
        {"id": 2, "workload": "refuse"},
        {"id": 3, "workload": "fail"},
        {"id": 4, "workload": "unknown"},
    ]
    tiny.tell(*asked)
    answers = [tiny.hear() for _ in asked]
    assert [answer["id"] for answer in answers] == [1, 2, 3, 4]
    assert answers[0]["steps"] == 7 and answers[0]["persisted"] is None
    assert answers[1] == {"id": 2, "unsupported": "it has no journal"}
    assert answers[2] == {"id": 3, "error": "RuntimeError: broken"}
    assert "unknown" in answers[3]["unsupported"]


@pytest.mark.parametrize("how", ["stop", "end of input", "SIGTERM"])
def test_adapter_ends_in_order_even_while_a_workload_goes_on(tiny: Tiny, how: str):
    tiny.hear()
    tiny.tell({"id": 1, "workload": "echo", "executions": 1})
    tiny.hear()
    tiny.tell({"id": 2, "workload": "never"})
    if how == "stop":
        tiny.tell({"stop": True})
    elif how == "SIGTERM":
        tiny.process.send_signal(signal.SIGTERM)
    assert tiny.ended_in_order()


class Recorder:
    """A peer that remembers what it was asked to execute."""

    def __init__(self) -> None:
        self.executed: list[tuple[str, str]] = []
        self.at_once = self.most = 0

    async def execute(self, workflow: str, execution: str, given: dict) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        self.executed.append((workflow, execution))

    async def resume(self, execution: str) -> None:
        self.executed.append(("resumed", execution))

    async def persisted(self, run: str, expected: int) -> int | None:
        return sum(execution.startswith(run) for _, execution in self.executed)


@pytest.mark.parametrize(
    ("name", "asked", "executions", "steps", "most"),
    [
        ("chain10", {"executions": 9, "in_flight": 4}, 9, 90, 4),
        ("fan100", {"executions": 3, "in_flight": 2}, 3, 306, 2),
        ("uneven", {"rounds": 2}, 2, 38, 1),
        ("llm_fan", {"executions": 5, "width": 200, "step_s": 1.0}, 5, 1010, 5),
        ("payload", {"executions": 2}, 2, 10, 1),
        ("memory", {"in_flight": 50}, 50, 50, 50),
    ],
)
async def test_driver_asks_every_peer_for_the_same(
    name: str, asked: dict, executions: int, steps: int, most: int
):
    peer = Recorder()
    driver = driving.Driver(peer)
    for _ in range(2):
        answer = await driver.workloads()[name](asked)
        assert answer["steps"] == steps
        assert answer["persisted"] == executions, "counted over another run, too"
        assert len(answer["latencies_s"]) == executions
    assert peer.most == most
    assert len({execution for _, execution in peer.executed}) == 2 * executions


async def test_driver_takes_up_the_execution_that_was_interrupted():
    peer = Recorder()
    await driving.Driver(peer).workloads()["recovery"]({})
    answer = await driving.Driver(peer).workloads()["recover"]({})
    assert [execution for _, execution in peer.executed] == [driving.RECOVERY] * 2
    assert answer["steps"] == serving.RECOVERY_STEPS


async def test_gate_opens_when_all_wait_and_again_for_the_next():
    gate = driving.Gate()
    for _ in range(2):
        first = asyncio.create_task(gate.wait(2, 0.0))
        await asyncio.sleep(0)
        assert not first.done()
        async with asyncio.timeout(5):
            await gate.wait(2, 0.0)
            await first


async def test_server_outlives_an_adapter_that_was_killed_and_ends_with_the_next(tmp_path: Path):
    program = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "while True: s.accept()[0].close()"
    )

    def command(ports):
        return [sys.executable, "-c", program, str(ports["main"])]

    killed = servers.server("echo", tmp_path, ("main",), command)
    first = await killed.__aenter__()
    async with servers.server("echo", tmp_path, ("main",), command) as second:
        assert second == first
    assert servers.began(first.pid) is None
    async with servers.server("echo", tmp_path, ("main",), command) as third:
        assert third.pid != first.pid
        assert third.ports == first.ports
    await killed.__aexit__(None, None, None)


async def test_server_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path):
    command = [sys.executable, "-c", "raise SystemExit('no such disk')"]
    with pytest.raises(servers.ServerFailed, match="no such disk"):
        async with servers.server("broken", tmp_path, ("main",), lambda ports: command):
            pass


def test_payload_is_a_megabyte_and_another_one_each_time_and_at_each_step():
    text, other = serving.payload_text(), serving.payload_text()
    assert len(text) == len(other) == serving.PAYLOAD_BYTES
    carried = [f"{number}{text[1:]}" for number in range(serving.PAYLOAD_STEPS)]
    assert len({text, other, *carried}) == serving.PAYLOAD_STEPS + 2


def test_uneven_has_its_critical_path():
    branches = [
        sum(serving.branch_seconds(branch, position) for position in range(6))
        for branch in serving.UNEVEN_SLOW_AT
    ]
    assert branches == pytest.approx([0.65] * 3)


@pytest.mark.parametrize("environment", environments.ENVIRONMENTS)
def test_environment_pins_every_version(environment: str):
    packages, of_node = environments.pins(environment)
    lines = packages.read_text().splitlines()
    assert lines
    assert [
        line
        for line in lines
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][A-Za-z0-9.+!]*", line)
    ] == []
    assert all(re.fullmatch(r"@?[a-z0-9/._-]+@[0-9]+\.[0-9]+\.[0-9]+", name) for name in of_node)


@pytest.mark.parametrize("module", ADAPTERS)
def test_adapter_names_its_setting_and_the_page_that_documents_it(module: str):
    path = FOLDER / f"{module}.py"
    tree = ast.parse(path.read_text(), str(path))
    compile(tree, str(path), "exec")
    named = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert {"SETTING", "PAGE"} <= named
    assert re.search(r'^PAGE = "https://\S+"$', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("peer", environments.PEERS.values(), ids=environments.PEERS)
def test_peer_without_its_environment_says_how_to_get_it(peer: environments.Peer, tmp_path: Path):
    reason = environments.missing(peer, home=tmp_path)
    assert reason is not None
    assert f"benchmarks.peers.environments {peer.environment}" in reason


def test_setting_up_names_the_command_that_failed():
    with pytest.raises(environments.EnvironmentMissing, match=r"Making it failed .*no luck"):
        environments.call([sys.executable, "-c", "raise SystemExit('no luck')"], "Making it")


def test_setting_up_an_unknown_system_names_the_known_ones(capsys: pytest.CaptureFixture[str]):
    assert environments.main(["nobody"]) == 2
    assert "restate" in capsys.readouterr().err
