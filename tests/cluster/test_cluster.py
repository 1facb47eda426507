"""Starting and ending a cluster of our own, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from agentflow.distributed.cluster import settings_environment, start
from agentflow.distributed.sweep import PREFIX, members, sweep_abandoned
from agentflow.errors import ConfigError
from agentflow.settings import Settings, load

pytestmark = pytest.mark.cluster

OWNER = """
import json, sys
from pathlib import Path
from agentflow.distributed.cluster import start
from agentflow.settings import Settings
cluster = start(Settings(data_dir=Path(sys.argv[1])), dashboard=False, num_cpus=1)
import ray
pid = ray.get(ray.remote(num_cpus=0)(lambda: __import__("os").getpid()).remote())
print(json.dumps({"folder": str(cluster.folder), "pids": [p.pid for p in cluster.processes()],
                  "worker": pid, "open": cluster.open_ports()}), flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


class Owner:
    """A process that owns a cluster until it is told to end, or killed."""

    def __init__(self, data_dir: Path, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "HOME": str(home), "PYTHONPATH": os.getcwd()},
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        found = json.loads(line)
        self.folder = Path(found["folder"])
        self.open = found["open"]
        self.alive = [psutil.Process(pid) for pid in {*found["pids"], found["worker"]}]


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path / "data", tmp_path)


def test_cluster_leaves_nothing_behind_when_it_is_shut_down(owner: Owner, tmp_path: Path) -> None:
    assert len(owner.alive) >= 4
    assert owner.open == []
    said, complained = owner.process.communicate("end\n", timeout=60)
    assert owner.process.returncode == 0
    assert (said, complained) == ("", "")
    assert psutil.wait_procs(owner.alive, timeout=1)[1] == []
    assert not owner.folder.exists()
    assert not (tmp_path / ".ray").exists()


TWICE = """
import sys
from pathlib import Path
from agentflow.distributed.cluster import start
from agentflow.settings import Settings
for _ in range(2):
    start(Settings(data_dir=Path(sys.argv[1])), dashboard=False, num_cpus=1).shutdown()
"""


def test_process_starts_a_second_cluster_after_its_first(tmp_path: Path) -> None:
    """As it does by itself where Ray on a busy machine did not start in time."""
    done = subprocess.run(
        [sys.executable, "-c", TWICE, str(tmp_path / "data")],
        capture_output=True,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.getcwd()},
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr


def test_cluster_does_not_outlive_its_killed_owner(owner: Owner) -> None:
    owner.process.send_signal(signal.SIGKILL)
    owner.process.communicate(timeout=10)
    assert psutil.wait_procs(owner.alive, timeout=15)[1] == []
    guard = [each for each in psutil.process_iter() if _is_guard(each, owner.folder)]
    psutil.wait_procs(guard, timeout=15)
    assert not owner.folder.exists()
    assert members(owner.folder) == []


def _is_guard(process: psutil.Process, folder: Path) -> bool:
    try:
        return str(folder) in process.cmdline()
    except psutil.Error:
        return False


def test_sweep_abandoned_removes_only_folders_whose_owner_is_gone(tmp_path: Path) -> None:
    me = psutil.Process()
    for name, owner in (
        ("gone", f"{me.pid} 1.00"),
        ("mine", f"{me.pid} {me.create_time():.2f}"),
    ):
        (tmp_path / f"{PREFIX}{name}").mkdir()
        (tmp_path / f"{PREFIX}{name}" / "owner").write_text(owner)
    (tmp_path / "other").mkdir()
    assert sweep_abandoned(tmp_path) == 1
    assert {each.name for each in tmp_path.iterdir()} == {f"{PREFIX}mine", "other"}


def test_start_refuses_a_foreign_cluster_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(ConfigError, match="RAY_AUTH_MODE=token"):
        start(Settings(data_dir=tmp_path, ray_address="192.0.2.7:6379"))


def test_start_refuses_a_temporary_folder_with_too_long_a_name(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="a" * 60) as long:
        with pytest.raises(ConfigError, match="too long"):
            start(Settings(data_dir=tmp_path), temp_dir=Path(long))
        assert os.listdir(long) == []


def test_attach_says_how_to_start_when_ray_is_not_running() -> None:
    code = (
        "from agentflow.distributed.cluster import attach\n"
        "from agentflow.errors import ConfigError\n"
        "try: attach()\n"
        "except ConfigError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "agentflow serve" in done.stdout, done.stderr


def test_settings_environment_is_read_back_as_the_same_settings(tmp_path: Path) -> None:
    settings = load(
        {
            "AGENTFLOW_DATA_DIR": str(tmp_path),
            "API_KEY": "k",
            "AGENTFLOW_EGRESS_ALLOW": "10.0.0.0/8,127.0.0.1/32",
            "AGENTFLOW_LEASE_S": "4.5",
            "AGENTFLOW_HEARTBEAT_S": "1",
        }
    )
    assert load(settings_environment(settings)) == settings
