"""``agentflow run --langgraph``: the same document as from our engine, and nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from tests.cli.conftest import COMMAND
from tests.fake_provider import Hang, Status, Text

LOOPED = {
    "name": "until it is good",
    "nodes": [
        {"id": "draft", "type": "input", "metadata": {"output_key": "text_result"}},
        {
            "id": "judge",
            "type": "aggregator",
            "metadata": {
                "strategy": "custom",
                "expression": "size(execution_path)",
                "output_key": "length",
            },
        },
        {
            "id": "publish",
            "type": "aggregator",
            "metadata": {"strategy": "template", "template": "{outputs.judge} of {length}"},
        },
    ],
    "edges": [
        {"from": "draft", "to": "judge"},
        {"from": "judge", "to": "draft", "condition": "length < 4"},
        {"from": "judge", "to": "publish", "condition": "else"},
    ],
    "state": {"length": {"type": "int", "merge": "max", "default": 0}},
    "start_node": "draft",
}


def compared(done) -> dict:
    """The document without what a name or a clock gives."""
    result = json.loads(done.stdout)
    final = result["final_state"]
    for name in ("execution_time", "metadata"):
        del final[name]
    for error in final["errors"]:
        assert error.pop("at")
    for error in result["errors"]:
        error.pop("at", None)
    del result["execution_id"], result["metrics"]["execution_time"]
    return result


def test_loop_gives_the_same_document_as_our_engine(cli):
    words = ["-", "-i", "user_input=Hello", "-o", "json"]
    there = cli("run", "--langgraph", *words, stdin=json.dumps(LOOPED))
    here = cli("run", "--local", *words, stdin=json.dumps(LOOPED))
    assert (there.returncode, here.returncode) == (0, 0), there.stderr
    assert compared(there) == compared(here)
    assert "draft@2" in there.stderr


def test_nothing_is_kept_and_stderr_says_so(cli, ask, provider, tmp_path):
    provider.script(Text("It is Paris."))
    folder = tmp_path / "none"
    done = cli("run", "--langgraph", ask(), "-i", "user_input=a", AGENTFLOW_DATA_DIR=str(folder))
    assert done.stdout == "It is Paris.\n"
    assert "nothing is kept" in done.stderr
    assert not folder.exists()


def test_failed_attempt_is_tried_again_and_paid_for(cli, ask, provider):
    provider.script(Status(500), Text("It is Paris."))
    path = Path(ask())
    workflow = json.loads(path.read_text())
    workflow["nodes"][1]["retry"] = {"max_attempts": 2, "initial_s": 0.01}
    path.write_text(json.dumps(workflow))
    done = cli("run", "--langgraph", str(path), "-i", "user_input=France?", "-o", "json")
    result = json.loads(done.stdout)
    assert (done.returncode, result["output"]) == (0, "It is Paris.")
    assert result["metrics"]["tokens_used"] > 0
    assert "retrying" in done.stderr


def test_failure_gives_the_same_document_as_our_engine(cli, ask, provider):
    provider.default = Status(401)
    words = [ask(), "-i", "user_input=Hello", "-o", "json"]
    there, here = cli("run", "--langgraph", *words), cli("run", "--local", *words)
    assert (there.returncode, here.returncode) == (1, 1)
    assert compared(there) == compared(here)


def test_what_langgraph_cannot_express_is_named(cli, ask):
    path = Path(ask())
    workflow = json.loads(path.read_text())
    workflow["nodes"][1]["timeout_s"] = 5
    path.write_text(json.dumps(workflow))
    done = cli("run", "--langgraph", str(path), "-o", "json")
    [error] = json.loads(done.stdout)["errors"]
    assert (done.returncode, error["type"]) == (3, "NotSupported")
    assert "'answer'" in error["message"] and "timeout_s" in error["message"]


def test_input_schema_is_checked_before_anything_runs(cli):
    workflow = {**LOOPED, "input_schema": {"type": "object", "required": ["length"]}}
    done = cli("run", "--langgraph", "-", "-o", "json", stdin=json.dumps(workflow))
    assert done.returncode == 2
    assert "length" in json.loads(done.stdout)["errors"][0]["message"]


def test_runtimes_exclude_each_other(cli):
    done = cli("run", "--langgraph", "--local", "-", stdin=json.dumps(LOOPED))
    assert done.returncode == 2
    assert "--langgraph" in done.stderr


def test_interrupt_ends_it(environ, ask, provider):
    provider.default = Hang()
    process = subprocess.Popen(
        [COMMAND, "run", "--langgraph", ask(), "-i", "user_input=a", "-o", "json"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert provider.wait_for(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, json.loads(out)["status"]) == (130, "running"), err
    assert "ends with this command" in err
    assert "Traceback" not in err
