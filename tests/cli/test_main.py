"""The edge of the command line: nothing passes it as a traceback."""

import json
import os
import signal
import subprocess

import pytest

import agentflow
from tests.cli.conftest import COMMAND, EXAMPLES

HELLO = str(EXAMPLES / "hello.json")


def test_version(typed):
    done = typed("--version")
    assert (done.returncode, done.stdout) == (0, f"agentflow {agentflow.__version__}\n")


def test_help_names_every_command(typed):
    from agentflow.cli.main import COMMANDS

    done = typed("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    "words", [("unknown",), ("run",), ("executions", "nothing"), ("run", "-x")]
)
def test_wrong_usage(cli, words):
    done = cli(*words)
    assert done.returncode == 2
    assert done.stdout == ""


@pytest.mark.parametrize("words", [("-x", "-o", "json"), ("-x", "--output=json"), ("-o", "json")])
def test_wrong_usage_is_one_document_for_a_program(cli, words):
    done = cli("run", *words)
    assert done.returncode == 2
    assert json.loads(done.stdout)["errors"][0]["type"] == "InvalidInput"


@pytest.mark.parametrize(
    ("name", "value"), [("LOG_LEVEL", "LOUD"), ("PORT", "many"), ("AGENTFLOW_LEASE_S", "1")]
)
def test_wrong_setting_names_the_variable(cli, name, value):
    done = cli("run", "--local", HELLO, "-o", "json", **{name: value})
    assert done.returncode == 2
    [error] = json.loads(done.stdout)["errors"]
    assert error["type"] == "ConfigError"
    assert name in error["message"]
    assert name in done.stderr


def test_database_that_is_away_is_a_sentence_without_its_password(cli):
    url = "postgresql://user:hidden-word@127.0.0.1:1/db"
    done = cli("run", "--local", HELLO, "-i", "user_input=a", DATABASE_URL=url)
    assert done.returncode == 5
    assert "hidden-word" not in done.stderr + done.stdout
    assert len(done.stderr.strip().splitlines()) <= 2


def test_data_folder_that_cannot_be_made_is_a_sentence(cli, tmp_path):
    (tmp_path / "file").write_text("")
    done = cli("keys", "show", "--bootstrap", AGENTFLOW_DATA_DIR=str(tmp_path / "file" / "data"))
    assert done.returncode == 2
    assert "AGENTFLOW_DATA_DIR" in done.stderr


def test_closed_pipe_is_no_error(environ):
    command = f"{COMMAND} schema | head -c 10"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_colours_do_not_reach_a_pipe(typed):
    done = typed("graph", HELLO, FORCE_COLOR="1")
    assert "\x1b" not in done.stdout


def test_interrupt_at_any_moment_leaves_one_document(environ, tmp_path):
    """While the command still reads its workflow, long before anything is executed."""
    pipe = tmp_path / "workflow"
    os.mkfifo(pipe)
    command = [COMMAND, "run", "--local", str(pipe), "-o", "json"]
    started = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with pipe.open("w"):  # returns when the command has opened it for reading
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=30)
    assert started.returncode == 130
    assert json.loads(out)["errors"][0]["message"] == "Interrupted"
    assert "Traceback" not in err
