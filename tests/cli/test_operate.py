"""``agentflow executions retry|release|fork|diff``, without a server and with one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.conftest import COMMAND, KEPT
from tests.fake_provider import Status, Text
from tests.soak import cases

ABSENT = "exec_" + "0" * 32


@pytest.fixture
def pair(ask):
    """A file: question -> draft -> answer, both of the model."""

    def write() -> str:
        node = {"source": "model", "prompt": "draft {user_input}", "output_key": "drafted"}
        last = {"source": "model", "prompt": "answer {drafted}", "output_key": "final_output"}
        once = {"retry": {"max_attempts": 1}}
        return ask(
            {
                "nodes": [
                    {"id": "question", "type": "input"},
                    {"id": "draft", "type": "llm", "metadata": node, **once},
                    {"id": "answer", "type": "llm", "metadata": last, **once},
                ],
                "edges": [
                    {"from": "question", "to": "draft"},
                    {"from": "draft", "to": "answer"},
                ],
                "state": {"drafted": {"type": "string"}},
            }
        )

    return write


@pytest.fixture(scope="module")
def server(home) -> Iterator[dict[str, str]]:
    """A server of this data folder's, in a process of its own."""
    code = (
        "import asyncio, contextlib, sys, uvicorn\n"
        "from agentflow import flow\n"
        "from agentflow.api.app import build_app\n"
        "from agentflow.settings import load\n"
        "app = build_app(lambda: flow.open_local(load()))\n"
        "server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))\n"
        "async def main():\n"
        "    serving = asyncio.create_task(server.serve())\n"
        "    while not server.started: await asyncio.sleep(0.02)\n"
        "    print(server.servers[0].sockets[0].getsockname()[1], flush=True)\n"
        "    await serving\n"
        "asyncio.run(main())\n"
    )
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    environ = {
        **kept,
        "HOME": str(home),
        "AGENTFLOW_DATA_DIR": str(home),
        "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
    }
    python = os.path.join(os.path.dirname(COMMAND), "python")
    process = subprocess.Popen([python, "-c", code], env=environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    assert port, "the server did not start"
    yield {"AGENTFLOW_API_URL": f"http://127.0.0.1:{port}"}
    process.terminate()
    process.wait(20)


@pytest.fixture
def af(cli, server):
    """The command, put to the server."""
    return lambda *words, **options: cli(*words, **{**server, **options})


def executed(af, pair, provider, *replies) -> str:
    provider.script(*replies)
    done = af("run", pair(), "-i", "user_input=x", "-o", "json")
    return json.loads(done.stdout)["execution_id"]


def prompts(provider) -> list[str]:
    return [request.prompt for request in provider.requests]


def test_retry_goes_on_to_the_end_without_calling_again_what_finished(af, pair, provider):
    execution = executed(af, pair, provider, Text("Draft."), Status(401))
    provider.script(Text("Done."))
    done = af("executions", "retry", execution, "--watch", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["status"], found["output"]) == ("success", "Done.")
    assert prompts(provider) == ["draft x", "answer Draft.", "answer Draft."]


def test_retry_that_fails_again_exits_with_one(af, pair, provider):
    execution = executed(af, pair, provider, Text("Draft."), Status(401))
    provider.default = Status(401)
    done = af("executions", "retry", execution, "--watch")
    assert done.returncode == 1 and "ProviderAuthError" in done.stderr


def test_retry_and_release_of_a_completed_execution_are_conflicts(af, pair, provider):
    execution = executed(af, pair, provider, Text("Draft."), Text("Done."))
    for verb in ("retry", "release"):
        done = af("executions", verb, execution, "-o", "json")
        assert done.returncode == 4
        [error] = json.loads(done.stdout)["errors"]
        assert error["type"] == "Conflict" and "is completed" in error["message"]


def test_fork_says_what_is_reused_and_begins_only_with_consent(af, pair, provider):
    execution = executed(af, pair, provider, Text("Draft."), Text("Done."))
    words = ("executions", "fork", execution, "--from", "answer")
    refused = af(*words, stdin="")
    assert refused.returncode == 2 and "--yes" in refused.stderr
    assert "Reused (2, $0.000000): question, draft" in refused.stderr
    assert "paid again (1, $0.000000 last time): answer" in refused.stderr
    provider.script(Text("Other."))
    done = af(*words, "--yes", "--watch", "-o", "json")
    found = json.loads(done.stdout)
    assert found["output"] == "Other." and found["execution_id"] != execution
    assert prompts(provider) == ["draft x", "answer Draft.", "answer Draft."]


def test_fork_with_a_changed_field_does_its_readers_anew(af, pair, provider):
    execution = executed(af, pair, provider, Text("Draft."), Text("Done."))
    provider.script(Text("New."), Text("Newer."))
    words = ("executions", "fork", execution, "--from", "answer", "--set", "user_input=y")
    done = af(*words, "--yes", "--watch", "-o", "json")
    assert json.loads(done.stdout)["output"] == "Newer."
    assert prompts(provider)[2:] == ["draft y", "answer New."]


@pytest.mark.parametrize("change", ["user_input", "=x", "user_input:={"])
def test_fork_refuses_a_setting_that_is_none(af, change):
    words = ("executions", "fork", ABSENT, "--from", "a", "--set", change)
    done = af(*words, "--yes")
    assert done.returncode == 2 and "--set" in done.stderr


def test_fork_from_a_node_that_is_not_there_names_those_that_are(af, pair, provider):
    execution = executed(af, pair, provider, Text("Draft."), Text("Done."))
    done = af("executions", "fork", execution, "--from", "nowhere", "--yes")
    assert done.returncode == 2 and "question, draft, answer" in done.stderr


def test_diff_shows_per_step_what_differs(af, pair, provider):
    a = executed(af, pair, provider, Text("Draft."), Text("One."))
    b = executed(af, pair, provider, Text("Draft."), Text("Two."))
    found = json.loads(af("executions", "diff", a, b, "-o", "json").stdout)
    equal = {node["step"]: node["output_equal"] for node in found["nodes"]}
    assert equal == {"question": True, "draft": True, "answer": False}
    shown = af("executions", "diff", a, b).stdout
    assert (
        '"text": "One."' in shown
        and '"text": "Two."' in shown
        and shown.splitlines()[-1].startswith("(all)")
    )


def test_absent_execution_is_not_found(af):
    for words in (("retry",), ("release",), ("fork", "--from", "a", "--yes"), ("diff", ABSENT)):
        verb, *options = words
        done = af("executions", verb, ABSENT, *options, "-o", "json")
        assert done.returncode == 4, done.stderr


def test_every_verb_without_a_server(cli, pair, provider):
    provider.script(Text("Draft."), Status(401))
    failed = cli("run", "--local", pair(), "-i", "user_input=x", "-o", "json")
    execution = json.loads(failed.stdout)["execution_id"]
    provider.script(Text("Done."))
    retried = cli("executions", "retry", execution, "--local", "-o", "json")
    assert json.loads(retried.stdout)["output"] == "Done.", retried.stderr
    assert cli("executions", "release", execution, "--local").returncode == 4
    provider.script(Text("Other."))
    words = ("executions", "fork", execution, "--from", "answer", "--yes", "--local")
    forked = json.loads(cli(*words, "-o", "json").stdout)
    assert forked["output"] == "Other."
    shown = cli("executions", "diff", execution, forked["execution_id"], "--local")
    assert '"text": "Other."' in shown.stdout


APPROVAL = {
    "nodes": [
        {"id": "approve", "type": "human", "metadata": {"prompt": "Well?", "assignees": ["ann"]}},
        {"id": "sent", "type": "wait", "metadata": {"signal": "mail sent", "output_key": "final_output"}},
    ],
    "edges": [{"from": "approve", "to": "sent"}],
    "start_node": "approve",
}  # fmt: skip


@pytest.mark.parametrize("local", [False, True][: cases(1)])
def test_resume_answers_a_person_and_then_a_signal(cli, af, local):
    command, more = (cli, ("--local",)) if local else (af, ("--watch",))
    where = ("--local",) if local else ()
    begun = command("run", "-", "-o", "json", *where, stdin=json.dumps(APPROVAL))
    assert begun.returncode == 7, begun.stderr
    assert "waits for an answer of ann: Well?" in begun.stderr
    key = json.loads(begun.stdout)["execution_id"]
    asked = ("executions", "resume", key)
    wrong = command(*asked, "--node", "approve", "--data", "{}", *where)
    assert wrong.returncode == 2 and "approved" in wrong.stderr
    yes = command(*asked, "--node", "approve", "--data", '{"approved": true}', *more)
    assert yes.returncode == 7 and "--signal 'mail sent'" in yes.stderr
    again = command(*asked, "--wait", "approve/0", "--data", '{"approved": true}', *where)
    assert again.returncode == 4
    sent = command(*asked, "--signal", "mail sent", "--data", '{"id": 7}', "-o", "json", *more)
    assert sent.returncode == 0 and json.loads(sent.stdout)["output"] == {"id": 7}


def test_resume_wants_one_name_and_json(af):
    for words in (
        ("--data", "1"),
        ("--node", "a", "--signal", "b"),
        ("--node", "a", "--data", "{"),
    ):
        assert af("executions", "resume", ABSENT, *words).returncode == 2
    assert af("executions", "resume", ABSENT, "--node", "a").returncode == 4
