"""The command line against a server: the real API in a thread of the tests, spoken to over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path

import pytest
import uvicorn

from agentflow import flow as flows
from agentflow.api.app import build_app
from agentflow.settings import Settings
from tests.cli.conftest import COMMAND
from tests.fake_provider import Hang, Status, Text

KEY = "af-test-key-of-the-command-line"
ABSENT = "exec_" + "0" * 32


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    """A server on the tests' data folder, in a thread with an event loop of its own."""
    local = (ip_network("127.0.0.0/8"),)
    settings = Settings(data_dir=home, api_key=KEY, egress_allow=local)
    app = build_app(lambda: flows.open_local(settings))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[listener]),))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=30)
    listener.close()


@pytest.fixture
def remote(url, cli):
    """The command with this server configured."""

    def call(*words: str, **extra: str):
        given = {"AGENTFLOW_API_URL": url, "AGENTFLOW_API_KEY": KEY, **extra}
        return cli(*words, **given)

    return call


def test_configured_server_executes(remote, ask, provider):
    provider.script(Text("It is Paris."))
    done = remote("run", ask(), "-i", "user_input=France?", "-o", "json")
    result = json.loads(done.stdout)
    assert (done.returncode, result["status"], result["output"]) == (0, "success", "It is Paris.")
    assert "answer  completed" in done.stderr


def test_failed_execution_on_a_server_is_one_document(remote, ask, provider):
    provider.default = Status(401)
    done = remote("run", ask(), "-i", "user_input=France?", "-o", "json")
    result = json.loads(done.stdout)
    assert (done.returncode, result["status"]) == (1, "failed")
    assert result["errors"][0]["type"] == "ProviderAuthError"


def test_detached_execution_is_watched_and_found(remote, ask, provider):
    provider.script(Text("Later."))
    started = remote("run", ask(), "--detach", "-i", "user_input=Well?")
    execution = started.stdout.strip()
    assert f"agentflow executions watch {execution}" in started.stderr
    watched = remote("executions", "watch", execution)
    assert (watched.returncode, watched.stdout) == (0, "Later.\n")
    found = json.loads(remote("executions", "get", execution, "-o", "json").stdout)
    assert found["status"] == "completed"
    listed = json.loads(remote("executions", "list", "-o", "json").stdout)
    assert execution in [each["id"] for each in listed["executions"]]
    assert remote("executions", "get", execution).stdout.endswith("Later.\n")


def test_cancelled_execution_ends_its_watcher(remote, ask, provider):
    provider.default = Hang()
    execution = remote("run", ask(), "--detach", "-i", "user_input=Well?").stdout.strip()
    assert provider.wait_for(1)
    assert remote("executions", "cancel", execution, "--reason", "enough").returncode == 0
    done = remote("executions", "watch", execution, "--timeout", "20", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (1, "cancelled")


def test_interrupt_detaches_and_tells_how_to_watch(environ, url, ask, provider, remote):
    provider.default = Hang()
    process = subprocess.Popen(
        [COMMAND, "run", ask(), "-i", "user_input=a", "-o", "json"],
        env={**environ, "AGENTFLOW_API_URL": url, "AGENTFLOW_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert provider.wait_for(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    execution = json.loads(out)["execution_id"]
    assert process.returncode == 130
    assert f"agentflow executions watch {execution}" in err
    assert (
        json.loads(remote("executions", "get", execution, "-o", "json").stdout)["status"]
        == "running"
    )
    remote("executions", "cancel", execution)


def test_wrong_key_is_not_allowed(remote):
    done = remote("executions", "list", AGENTFLOW_API_KEY="af-wrong")
    assert done.returncode == 5
    assert "AGENTFLOW_API_KEY" in done.stderr
    assert "af-wrong" not in done.stderr


def test_absent_execution_is_not_found(remote):
    for verb in ("get", "watch", "cancel"):
        done = remote("executions", verb, ABSENT, "-o", "json")
        assert (done.returncode, json.loads(done.stdout)["errors"][0]["type"]) == (4, "NotFound")


def test_feature_that_cannot_be_executed_has_the_exit_code_of_an_invalid_workflow(remote):
    node = {"id": "ask", "type": "human", "metadata": {"notify": ["whk_1"]}}
    workflow = {"nodes": [node], "start_node": "ask"}
    done = remote("run", "-", "-o", "json", stdin=json.dumps(workflow))
    assert done.returncode == 3
    [error] = json.loads(done.stdout)["errors"]
    assert error["type"] == "NotSupported" and "'notify'" in error["message"]


def test_problems_that_only_the_server_finds_are_shown(remote, ask):
    workflow = json.loads(Path(ask()).read_text())
    workflow["sources"][0]["config"]["api_key_env"] = "TEAM_KEY"
    path = ask({"sources": workflow["sources"]})
    done = remote("run", path, "-o", "json", AGENTFLOW_SOURCE_ENV="TEAM_KEY")
    assert done.returncode == 3
    assert json.loads(done.stdout)["errors"][0]["code"] == "E016"
    assert "E016" in done.stderr


def test_no_server_is_a_sentence_with_the_way_out(remote):
    done = remote("executions", "list", "-o", "json", AGENTFLOW_API_URL="http://127.0.0.1:1")
    assert done.returncode == 5
    assert "agentflow serve" in done.stderr
    assert json.loads(done.stdout)["errors"][0]["type"] == "Unreachable"


@pytest.mark.parametrize("address", ["nonsense", "ftp://127.0.0.1", "http://[::1"])
def test_address_that_is_none_is_a_sentence(remote, address):
    done = remote("executions", "list", AGENTFLOW_API_URL=address)
    assert done.returncode == 5
    assert address in done.stderr


class Other(BaseHTTPRequestHandler):
    """Some other program's server, which notes the keys it is shown."""

    keys: list[str | None] = []

    body = b"<html>hello</html>"

    def do_GET(self) -> None:
        self.keys.append(self.headers.get("X-API-Key"))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def other() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("body", [b"<html>hello</html>", b'{"id": 1}', b"[]"])
def test_other_programs_server_is_told_from_ours(cli, other, ask, body, monkeypatch):
    monkeypatch.setattr(Other, "body", body)
    for words in (("executions", "list"), ("executions", "get", ABSENT), ("run", ask())):
        done = cli(*words, AGENTFLOW_API_URL=other)
        assert done.returncode == 5
        assert "not an AgentFlow server" in done.stderr


@pytest.mark.parametrize("name", ["", "../..", "exec_x", "a" * 300])
def test_what_is_no_id_is_not_found(remote, name):
    for verb in ("get", "watch", "cancel"):
        done = remote("executions", verb, name)
        assert (done.returncode, done.stderr) == (4, "Execution not found.\n")


def test_key_that_cannot_be_sent_is_a_sentence(remote):
    done = remote("executions", "list", AGENTFLOW_API_KEY="k\u00e9y")
    assert done.returncode == 2
    assert "AGENTFLOW_API_KEY" in done.stderr and "k\u00e9y" not in done.stderr


def test_generated_key_is_for_this_machine_only(home):
    from agentflow.cli.server import api_key

    (home / "api-key").touch(mode=0o600)
    settings = Settings(data_dir=home)
    assert api_key(settings, "https://flows.example.com") is None
    assert api_key(settings, "http://127.0.0.1.example.com:8000") is None


def test_server_of_the_data_folder_is_found_by_itself(home, url, cli, ask, provider):
    note = home / "server.json"
    note.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    try:
        provider.script(Text("Here."))
        words = ("run", "--server", ask(), "-i", "user_input=Where?")
        done = cli(*words, AGENTFLOW_API_KEY=KEY)
        assert (done.returncode, done.stdout) == (0, "Here.\n")
        note.write_text("not JSON")
        assert cli("executions", "list", PORT="1").returncode == 5
    finally:
        note.unlink()
