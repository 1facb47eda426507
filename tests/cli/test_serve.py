"""``agentflow serve``: one line when it is ready, everything on loopback, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import psutil
import pytest

from agentflow.store import embedded
from tests.cli.conftest import COMMAND, KEPT
from tests.fake_provider import FakeProvider, Status, Text

pytestmark = pytest.mark.cluster
READY_S, STOP_S = 180.0, 90.0


class Served:
    """A server as a person starts it, in a data folder of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.data = folder / "data"
        self.errors = folder / "stderr"
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.environ = {
            **kept,
            "HOME": str(folder),
            "AGENTFLOW_DATA_DIR": str(self.data),
            "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
        }
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [COMMAND, "serve", *words],
                env=self.environ,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self.line = ""

    def wait_until_ready(self) -> None:
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        reader.join(READY_S)
        assert self.line, self.errors.read_text()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()

    @property
    def url(self) -> str:
        return re.findall(r"API (\S+)", self.line)[0]

    @property
    def ray_folder(self) -> Path:
        return Path(re.findall(r"token in (\S+)/token", self.line)[0])

    def leftovers(self) -> list[str]:
        """Processes that belong to this server, by what stands in their command or environment."""
        marks = (str(self.data), str(self.ray_folder)) if self.line else (str(self.data),)
        found = []
        for process in psutil.process_iter():
            try:
                command = process.cmdline()
                words = [*command, *process.environ().values()]
            except psutil.Error:
                continue
            if process.pid != os.getpid() and any(mark in word for word in words for mark in marks):
                found.append(f"{process.pid} {' '.join(command)[:120]}")
        return found

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *words], env=self.environ, capture_output=True, text=True, timeout=90
        )


def new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="af-test-", dir="/tmp"))
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Served, Served]]:
    """One that is ready, and one that becomes ready while the first is looked at."""
    folders = new_folder(), new_folder()
    started: list[Served] = []
    try:
        started.append(Served(folders[0]))
        started[0].wait_until_ready()
        started.append(Served(folders[1]))
        yield started[0], started[1]
    finally:
        for server in started:
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(timeout=STOP_S)
        for folder in folders:
            embedded.destroy(folder / "data")
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def served(servers: tuple[Served, Served]) -> Served:
    return servers[0]


def fetch(url: str, **headers: str) -> bytes:
    opener = build_opener(ProxyHandler({}))
    with opener.open(Request(url, headers=headers), timeout=20) as reply:
        return reply.read()


def test_ready_line_names_every_address(served: Served):
    assert served.line.startswith("AgentFlow is ready: API http://127.0.0.1:")
    assert "Ray dashboard http://127.0.0.1:" in served.line
    assert str(served.data) in served.line
    assert json.loads(fetch(served.url))["service"]
    assert b"openapi" in fetch(f"{served.url}/openapi.json")
    assert served.errors.read_text() == ""


def test_workflow_is_executed_by_the_workers_of_ray(served: Served, tmp_path: Path):
    from tests.cli.conftest import question

    with FakeProvider() as provider:
        provider.default = Text("From Ray.")
        path = tmp_path / "workflow.json"
        path.write_text(json.dumps(question(provider.base_url)))
        done = served.cli("run", "--server", str(path), "-i", "user_input=Where?")
        assert (done.returncode, done.stdout) == (0, "From Ray.\n"), done.stderr
        assert re.search(r"worker \d+ af/io/", done.stderr)
    listed = json.loads(served.cli("executions", "list", "-o", "json").stdout)
    assert listed["executions"][0]["status"] == "completed"


def test_failed_execution_is_retried_and_forked_on_ray(served: Served, tmp_path: Path):
    from tests.cli.conftest import question

    with FakeProvider() as provider:
        provider.script(Status(401), Text("Retried."), Text("Forked."))
        path = tmp_path / "workflow.json"
        path.write_text(json.dumps(question(provider.base_url)))
        failed = served.cli("run", "--server", str(path), "-i", "user_input=Where?", "-o", "json")
        execution = json.loads(failed.stdout)["execution_id"]
        retried = served.cli("executions", "retry", execution, "--watch")
        assert (retried.returncode, retried.stdout) == (0, "Retried.\n"), retried.stderr
        words = ("executions", "fork", execution, "--from", "answer", "--yes", "--watch")
        forked = served.cli(*words)
        assert (forked.returncode, forked.stdout) == (0, "Forked.\n"), forked.stderr
        assert provider.calls == 3


def test_dashboard_asks_for_its_token(served: Served):
    dashboard = re.findall(r"Ray dashboard (\S+)", served.line)[0]
    token = (served.ray_folder / "token").read_text().strip()
    page = fetch(f"{dashboard}/api/version", Authorization=f"Bearer {token}")
    assert json.loads(page)["ray_version"]


def test_what_listens_on_all_interfaces_is_named(served: Served):
    told = {
        int(port) for port in re.findall(r"(\d+) \(ray::", served.line.split("open on all")[-1])
    }
    wide = set()
    for process in psutil.process_iter():
        try:
            ours = str(served.ray_folder) in " ".join(process.environ().values())
            connections = process.net_connections("tcp") if ours else []
        except psutil.Error:
            continue
        wide |= {
            connection.laddr.port
            for connection in connections
            if connection.status == psutil.CONN_LISTEN and connection.laddr.ip in ("0.0.0.0", "::")
        }
    assert wide <= told
    findings = json.loads(served.cli("doctor", "-o", "json").stdout)["checks"]
    named = " ".join(check["found"] for check in findings if check["subject"] == "open ports")
    assert all(str(port) in named for port in wide)


def test_second_server_on_a_taken_port_is_one_sentence(served: Served):
    port = served.url.rpartition(":")[2]
    done = served.cli("serve", "--port", port)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"Port {port} of 127.0.0.1 is taken; stop what uses it, or give another --port.\n"
    )


def test_term_signal_drains_and_leaves_nothing(served: Served):
    """The last test of this server: it ends it."""
    assert (served.data / "server.json").exists()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(timeout=STOP_S) == 0
    assert "Traceback" not in served.errors.read_text()
    assert not (served.data / "server.json").exists()
    assert not served.ray_folder.exists()
    assert eventually_empty(served.leftovers) == []


def eventually_empty(look, limit_s: float = 15.0) -> list[str]:
    """The embedded database stops two seconds after the last process let go of it."""
    deadline = time.monotonic() + limit_s
    pause = threading.Event()
    while (found := look()) and time.monotonic() < deadline:
        pause.wait(0.2)
    return found


def test_killed_server_leaves_nothing_behind(servers: tuple[Served, Served]):
    server = servers[1]
    server.wait_until_ready()
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(timeout=10)
    assert eventually_empty(server.leftovers, 60) == []
    assert not server.ray_folder.exists()
    done = server.cli("executions", "list")
    assert done.returncode == 5


def test_port_that_is_free_is_found():
    from agentflow.cli.serve import free_port

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port("127.0.0.1", port, by_hand=False) > port


def test_server_that_stops_leaves_the_command_line_another_one_of_its_folder(tmp_path: Path):
    from agentflow.cli import serve, server
    from agentflow.settings import Settings

    settings = Settings(data_dir=tmp_path)
    note = server.address_file(tmp_path)
    other = json.dumps({"url": "http://127.0.0.1:1", "pid": os.getppid()})
    note.write_text(other)
    with serve._noted(settings, "http://127.0.0.1:2"):
        assert server.address(settings) == "http://127.0.0.1:2"
    assert server.address(settings) == "http://127.0.0.1:1"
    with serve._noted(settings, "http://127.0.0.1:2"):
        note.write_text(other)
    assert server.address(settings) == "http://127.0.0.1:1"
    note.write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": 2**22 + 1}))
    with serve._noted(settings, "http://127.0.0.1:2"):
        pass
    assert not note.exists()
