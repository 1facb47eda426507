"""The command as a person types it: a process of its own, in a data folder of the tests' own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.store import embedded
from tests.cli.forked import Template
from tests.fake_provider import FakeProvider

Json = Any
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
COMMAND = str(Path(sys.executable).parent / "agentflow")
KEPT = ("PATH", "LANG", "TMPDIR", "COVERAGE_FILE", "COVERAGE_PROCESS_START")

Done = subprocess.CompletedProcess[str]
Cli = Callable[..., Done]


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A data folder whose database stays up while the tests of this folder last."""
    folder = Path(tempfile.mkdtemp(prefix="af-test-", dir="/tmp"))
    folder.chmod(0o711)
    held = embedded.join(folder / "data")
    yield folder / "data"
    held.close()
    embedded.destroy(folder / "data")
    shutil.rmtree(folder)


@pytest.fixture
def environ(home: Path, tmp_path: Path) -> dict[str, str]:
    """What the command sees: nothing of the environment that the tests happen to run in."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {
        **kept,
        "HOME": str(tmp_path),
        "AGENTFLOW_DATA_DIR": str(home),
        "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
    }


@pytest.fixture(scope="session")
def template(home: Path) -> Iterator[Template]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    started = Template({**kept, "HOME": str(home)})
    yield started
    started.close()


def _checked(told: Done) -> Done:
    assert "Traceback" not in told.stderr + told.stdout, told.stderr
    return told


@pytest.fixture
def cli(template: Template, environ: dict[str, str], tmp_path: Path) -> Cli:
    """``cli("run", ..., stdin=..., API_KEY=...)``: never a traceback, whatever happens."""

    def call(*words: str, stdin: str | bytes | None = None, **extra: str) -> Done:
        raw = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
        return _checked(template.call(words, raw, {**environ, **extra}, tmp_path))

    return call


@pytest.fixture
def typed(environ: dict[str, str], tmp_path: Path) -> Cli:
    """As ``cli``, by the command that is installed, with its imports: what a shell starts."""

    def call(*words: str, **extra: str) -> Done:
        command = [COMMAND, *words]
        told = subprocess.run(
            command,
            env={**environ, **extra},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return _checked(told)

    return call


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as started:
        yield started


@pytest.fixture
def ask(provider: FakeProvider, tmp_path: Path) -> Callable[..., str]:
    """Writes a workflow of one question to the provider; its file. ``changes`` go over the whole."""

    def write(changes: Json | None = None, **options: Json) -> str:
        document = question(provider.base_url, **options) | (changes or {})
        path = tmp_path / "workflow.json"
        path.write_text(json.dumps(document))
        return str(path)

    return write


def question(base_url: str, **options: Json) -> Json:
    """input -> llm, over an endpoint that speaks the chat completions protocol."""
    config = {"provider": "openai-compatible", "model": "fake-1", "base_url": base_url}
    node = {"source": "model", "output_key": "final_output", **options}
    return {
        "name": "ask",
        "nodes": [
            {"id": "question", "type": "input"},
            {"id": "answer", "type": "llm", "metadata": node, "retry": {"max_attempts": 1}},
        ],
        "edges": [{"from": "question", "to": "answer"}],
        "sources": [{"id": "model", "kind": "llm", "config": config}],
        "start_node": "question",
    }
