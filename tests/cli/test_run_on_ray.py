"""``agentflow run``, with nothing configured: a Ray of its own, which ends with the command."""

import json
import re
import signal
import subprocess

import psutil
import pytest

from tests.cli.conftest import COMMAND
from tests.fake_provider import Hang, Text

pytestmark = pytest.mark.cluster


def processes_of(data_dir) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("AGENTFLOW_DATA_DIR") == str(data_dir):
                found.append(" ".join(process.cmdline())[:100])
        except psutil.Error:
            continue
    return [line for line in found if line and "agentflow.store.embedded" not in line]


def test_execution_on_a_ray_of_its_own_leaves_nothing(cli, ask, provider, home):
    provider.script(Text("From Ray."))
    done = cli("run", ask(), "-i", "user_input=Where?", "-o", "json")
    result = json.loads(done.stdout)
    assert (done.returncode, result["output"]) == (0, "From Ray."), done.stderr
    assert re.search(r"answer  completed .* worker \d+ af/io/", done.stderr)
    assert processes_of(home) == []


def test_interrupt_ends_ray_and_keeps_the_execution(environ, ask, provider, home, cli):
    provider.default = Hang()
    process = subprocess.Popen(
        [COMMAND, "run", "--ray", ask(), "-i", "user_input=a", "-o", "json"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert provider.wait_for(1, timeout=120)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert processes_of(home) == []
    execution = json.loads(out)["execution_id"]
    provider.default = Text("After all.")
    watched = cli("executions", "watch", execution, "--local", "--timeout", "60")
    assert (watched.returncode, watched.stdout) == (0, "After all.\n")
