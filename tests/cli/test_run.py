"""``agentflow run --local``: one document for a program, progress for a person, true exit codes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading

import pytest

from tests.cli.conftest import COMMAND, EXAMPLES
from tests.fake_provider import Hang, Raw, Reply, Status, Text

KEYS = ["status", "execution_id", "final_state", "output", "metrics", "errors"]


def document(done) -> dict:
    result = json.loads(done.stdout)
    assert list(result) == KEYS
    return result


def test_completed_execution_is_one_document(cli, ask, provider):
    provider.script(Text("It is Paris."))
    done = cli("run", "--local", ask(), "-i", "user_input=The capital of France?", "-o", "json")
    result = document(done)
    assert (done.returncode, result["status"], result["output"]) == (0, "success", "It is Paris.")
    assert result["execution_id"].startswith("exec_")
    assert result["final_state"]["user_input"] == "The capital of France?"
    assert result["metrics"]["nodes_executed"] == 2
    assert result["metrics"]["tokens_used"] > 0
    assert result["errors"] == []


def test_output_is_text_for_a_person_and_progress_is_on_stderr(cli, ask, provider):
    provider.script(Text("It is Paris."))
    done = cli("run", "--local", ask(), "-i", "user_input=France?")
    assert done.stdout == "It is Paris.\n"
    states = [line.split()[1:3] for line in done.stderr.splitlines()[:3]]
    assert states == [["question", "completed"], ["answer", "running"], ["answer", "completed"]]
    assert "tokens" in done.stderr.splitlines()[2]


def test_quiet_says_nothing_but_the_answer(cli, ask, provider):
    provider.script(Text("Yes."))
    done = cli("run", "--local", ask(), "-i", "user_input=Well?", "-q")
    assert (done.stdout, done.stderr) == ("Yes.\n", "")


FAILURES: dict[str, tuple[Reply, str]] = {
    "401": (Status(401), "ProviderAuthError"),
    "404": (Status(404), "ProviderRejected"),
    "500": (Status(500), "ProviderUnavailable"),
    "garbage": (Raw(b"<html>"), "ProviderUnavailable"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_failed_execution_is_one_document_too(cli, ask, provider, kind):
    reply, error = FAILURES[kind]
    provider.default = reply
    done = cli("run", "--local", ask(), "-i", "user_input=Hello", "-o", "json")
    result = document(done)
    assert (done.returncode, result["status"]) == (1, "failed")
    assert [(found["node_id"], found["type"]) for found in result["errors"]] == [("answer", error)]
    assert result["final_state"]["outputs"]["question"] == "Hello"
    assert result["output"] is None


def test_failure_names_the_node_for_a_person(cli, ask, provider):
    provider.default = Status(401)
    done = cli("run", "--local", ask(), "-i", "user_input=Hello")
    assert done.returncode == 1
    assert "ProviderAuthError in node answer: " in done.stderr
    assert done.stdout == ""


def test_missing_credential_names_the_variable(cli, ask):
    path = ask()
    with open(path) as file:
        workflow = json.load(file)
    workflow["sources"][0]["config"]["api_key_env"] = "OPENAI_API_KEY"
    done = cli("run", "--local", "-", "-o", "json", stdin=json.dumps(workflow))
    [error] = document(done)["errors"]
    assert (done.returncode, error["type"]) == (1, "MissingCredential")
    assert "OPENAI_API_KEY" in error["message"]


def test_execution_past_its_limit_is_timed_out(cli, ask, provider):
    provider.default = Hang()
    path = ask({"settings": {"timeout_s": 0.5}})
    done = cli("run", "--local", path, "-i", "user_input=Hello", "-o", "json")
    assert (done.returncode, document(done)["status"]) == (124, "timed_out")


def test_time_to_wait_is_over_before_the_execution(cli, ask, provider):
    provider.default = Hang()
    done = cli("run", "--local", ask(), "--timeout", "0.5", "-i", "user_input=a", "-o", "json")
    result = document(done)
    assert (done.returncode, result["status"]) == (124, "running")
    assert f"executions cancel {result['execution_id']} --local" in done.stderr
    ended = cli("executions", "cancel", result["execution_id"], "--local")
    assert (ended.returncode, ended.stdout) == (0, f"{result['execution_id']} cancelled\n")


def test_invalid_workflow_starts_nothing(cli, tmp_path):
    workflow = '{"nodes": [{"id": "a", "type": "llm"}], "start_node": "b"}'
    done = cli("run", "--local", "-", "-o", "json", stdin=workflow)
    result = document(done)
    assert (done.returncode, result["status"], result["execution_id"]) == (3, "invalid", None)
    assert {error["code"] for error in result["errors"]} == {"E005", "E014"}
    assert "E005" in done.stderr


def test_feature_that_cannot_be_executed_is_named(cli):
    workflow = {
        "nodes": [{"id": "ask", "type": "human", "metadata": {"notify": ["whk_1"]}}],
        "start_node": "ask",
    }
    done = cli("run", "--local", "-", "-o", "json", stdin=json.dumps(workflow))
    assert done.returncode == 3
    assert "'notify'" in document(done)["errors"][0]["message"]


TYPED = {
    "nodes": [
        {
            "id": "all",
            "type": "aggregator",
            "metadata": {"strategy": "custom", "expression": "[count + 1, size(tags), size(note)]"},
        }
    ],
    "state": {"count": {"type": "int"}, "tags": {"type": "list"}, "note": {"type": "string"}},
    "start_node": "all",
}


def test_inputs_follow_the_declared_types(cli, tmp_path):
    (tmp_path / "note.txt").write_text("four")
    (tmp_path / "state.json").write_text('{"count": 1, "tags": ["x"]}')
    words = ["-i", "count=41", "-i", "note=@note.txt", "--input-file", "state.json"]
    done = cli("run", "--local", "-", *words, "-o", "json", stdin=json.dumps(TYPED))
    assert document(done)["output"] == [42, 1, 4]


def test_undeclared_input_may_be_given_as_json(cli):
    words = ["-i", 'extra:={"a": [1]}', "-i", "plain=17", "-i", "count=0", "-i", "tags=[]"]
    done = cli("run", "--local", "-", *words, "-o", "json", stdin=json.dumps(TYPED))
    final = document(done)["final_state"]
    assert (final["extra"], final["plain"]) == ({"a": [1]}, "17")


@pytest.mark.parametrize(
    "words",
    [
        ["-i", "no-equals-sign"],
        ["-i", "count=many"],
        ["-i", "x:=NaN"],
        ["--input-file", "missing.json"],
        ["--input-file", "list.json"],
        ["--input-file", "broken.json"],
        ["--ray"],
        ["--detach"],
        ["--timeout", "soon"],
    ],
    ids=lambda words: words[-1],
)
def test_wrong_usage_is_a_sentence(cli, tmp_path, words):
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{,}")
    done = cli("run", "--local", "-", *words, stdin=json.dumps(TYPED))
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert done.stdout == ""


def test_input_schema_is_checked_before_an_execution_exists(cli):
    workflow = {**TYPED, "input_schema": {"type": "object", "required": ["count"]}}
    done = cli("run", "--local", "-", "-o", "json", stdin=json.dumps(workflow))
    result = document(done)
    assert (done.returncode, result["execution_id"]) == (2, None)
    assert "count" in result["errors"][0]["message"]


def test_input_rules_fail_the_node(cli):
    path = str(EXAMPLES / "support_triage.json")
    done = cli("run", "--local", path, "-i", "user_input=short", "-o", "json")
    [error] = document(done)["errors"]
    assert (done.returncode, error["node_id"], error["type"]) == (1, "message", "InvalidInput")


def test_real_model_answers(cli):
    path, state = EXAMPLES / "support_triage.json", EXAMPLES / "support_triage.input.json"
    done = cli("run", "--local", str(path), "--input-file", str(state), "-o", "json")
    result = document(done)
    assert done.returncode == 0, done.stderr
    outputs = result["final_state"]["outputs"]
    assert outputs["mood"]["data"]["mood"] in ("happy", "neutral", "angry")
    assert outputs["billing"]["data"]["topic"] in ("refund", "invoice", "price")
    assert "technical" not in outputs
    assert result["output"].startswith("Department: billing\nTopic: ")


def test_control_characters_of_a_reply_do_not_reach_the_terminal(cli, ask, provider):
    provider.script(Text("\x1b[2Jgone\x07"))
    done = cli("run", "--local", ask(), "-i", "user_input=Hello")
    assert "\x1b" not in done.stdout
    assert "gone" in done.stdout


def test_interrupt_leaves_the_execution_in_the_data_folder(environ, ask, provider, cli):
    provider.default = Hang()
    process = subprocess.Popen(
        [COMMAND, "run", "--local", ask(), "-i", "user_input=a", "-o", "json"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert provider.wait_for(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    result = json.loads(out)
    assert (process.returncode, result["status"]) == (130, "running"), err
    assert result["execution_id"] in err
    assert "Traceback" not in err
    cli("executions", "cancel", result["execution_id"], "--local")


def test_terminal_gets_a_live_table(environ, ask, provider):
    provider.script(Text("It is Paris."))
    terminal, side = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "run", "--local", ask(), "-i", "user_input=France?"],
        env={**environ, "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=side,
    )
    os.close(side)
    shown: list[bytes] = []
    reader = threading.Thread(target=_drain, args=(terminal, shown))
    reader.start()
    out, _ = process.communicate(timeout=60)
    reader.join(timeout=10)
    os.close(terminal)
    text = b"".join(shown).decode()
    assert (process.returncode, out.decode()) == (0, "It is Paris.\n")
    for word in ("step", "state", "worker", "time", "tokens", "question", "completed", "local"):
        assert word in text


def _drain(terminal: int, shown: list[bytes]) -> None:
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            return
        if not piece:
            return
        shown.append(piece)
