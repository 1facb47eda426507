"""``agentflow run``, with nothing configured: a Ray of its own, which ends with the command."""

import json
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


def test_interrupted_execution_leaves_no_ray_and_goes_on_later(environ, ask, provider, home, cli):
    provider.default = Hang()
    process = subprocess.Popen(
        [COMMAND, "run", ask(), "-i", "user_input=a", "-o", "json"],
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
