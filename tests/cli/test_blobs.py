"""``agentflow blobs save``, and what ``agentflow run`` says of the pictures that were made."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_provider import FakeProvider, Raw
from tests.images_wire import Drawn, ImagesWire, png

DRAWN = png(256, 256, colour=41)
URI = f"blob:sha256:{hashlib.sha256(DRAWN).hexdigest()}"


@pytest.fixture
def wire() -> Iterator[ImagesWire]:
    with ImagesWire("openai") as wire:
        wire.default = Drawn((DRAWN,))
        yield wire
    assert wire.faults == []


@pytest.fixture
def drawing(wire: ImagesWire, tmp_path: Path) -> str:
    """A file with a workflow that draws its input."""
    config = {
        "provider": "openai",
        "model": "gpt-image-2",
        "base_url": f"{wire.address}/v1",
        "api_key_env": "OPENAI_API_KEY",
    }
    document = {
        "nodes": [
            {"id": "start", "type": "input"},
            {"id": "draw", "type": "image", "metadata": {"source": "art"}},
        ],
        "edges": [{"from": "start", "to": "draw"}],
        "start_node": "start",
        "sources": [{"id": "art", "kind": "image", "config": config}],
        "output": {"picture": "${image_result.blob.uri}"},
    }
    path = tmp_path / "drawing.json"
    path.write_text(json.dumps(document))
    return str(path)


def test_run_says_how_the_picture_is_saved_and_save_does_it(cli, drawing: str, tmp_path: Path):
    told = cli("run", drawing, "--local", "-i", "user_input=a fox", OPENAI_API_KEY="sk-canary-1")
    assert told.returncode == 0 and URI in told.stdout, told.stderr
    said = re.search(r"Kept image/png, (\d+) bytes; save it with: agentflow (.+)", told.stderr)
    assert said is not None and int(said[1]) == len(DRAWN)
    saved = cli(*said[2].split())
    assert saved.returncode == 0, saved.stderr
    assert (tmp_path / saved.stdout.strip()).read_bytes() == DRAWN
    again = cli(*said[2].split())
    assert again.returncode == 4 and "--force" in again.stderr
    forced = cli(*said[2].split(), "fox.png", "--force", "-o", "json")
    assert json.loads(forced.stdout) == {
        "uri": URI,
        "file": "fox.png",
        "mime_type": "image/png",
        "size": len(DRAWN),
    }
    assert (tmp_path / "fox.png").read_bytes() == DRAWN
    assert sorted(path.suffix for path in tmp_path.glob("*.png*")) == [".png", ".png"]


def test_what_is_not_the_blob_is_not_saved(cli, tmp_path: Path):
    with FakeProvider(default=Raw(b"something else", content_type="image/png")) as server:
        told = cli("blobs", "save", URI, AGENTFLOW_API_URL=f"http://127.0.0.1:{server.port}")
    assert told.returncode == 5 and "nothing was saved" in told.stderr
    assert not list(tmp_path.glob("*.png*")) and not list(tmp_path.glob(".*.png.*"))


def test_blob_that_is_none_is_told(cli):
    wrong = cli("blobs", "save", "/etc/passwd", "--local")
    assert wrong.returncode == 2 and "no address of a blob" in wrong.stderr
    absent = cli("blobs", "save", f"blob:sha256:{'0' * 64}", "--local")
    assert absent.returncode == 4 and "Blob not found" in absent.stderr
