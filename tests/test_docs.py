"""The documentation is true: its blocks are executed, its lists are complete."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agentflow import settings
from agentflow.cli.main import build
from agentflow.spec.check import check

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ONLY_COMMAND_LINE = {"AGENTFLOW_API_KEY", "AGENTFLOW_DEBUG"}
LANGUAGES = {"sh", "json", "text", "mermaid"}


class Block(NamedTuple):
    """A fenced block: its place, language, what stands beside the language, and its text."""

    place: str
    language: str
    note: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    start, info = None, ""
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            continue
        if start is None:
            start, info = number, line.strip("`").strip()
            continue
        language, _, note = info.partition(" ")
        text = "\n".join(lines[start : number - 1])
        yield Block(f"{page.relative_to(ROOT)}:{start}", language, note, text)
        start = None
    assert start is None, f"{page.name}:{start}: a block is not closed"


def masked(text: str) -> str:
    """What varies from one execution to the next."""
    text = re.sub(r"\b(exec|req|key)_[0-9a-f]{32}\b", r"\1_ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME", text)
    text = re.sub(r"\b\d+\.\d+\b", "NUMBER", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_name_their_language_and_their_reason(page: Path):
    for block in blocks(page):
        assert block.language in LANGUAGES, block.place
        kind, _, reason = block.note.partition(":")
        assert kind in ("", "output", "no-run"), block.place
        assert kind != "no-run" or len(reason.strip()) > 10, f"{block.place}: no reason"


@pytest.fixture
def place(tmp_path: Path, data_dir: Path) -> tuple[Path, dict[str, str]]:
    """A folder with the examples, and the environment of a person who has just installed."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = ("PATH", "LANG", "COVERAGE_FILE", "COVERAGE_PROCESS_START", "TMPDIR")
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    environ |= {"HOME": str(tmp_path), "AGENTFLOW_DATA_DIR": str(data_dir), "PORT": str(port)}
    return tmp_path, environ


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_blocks_do_what_the_page_says(page: Path, place: tuple[Path, dict[str, str]]):
    folder, environ = place
    printed = ""
    for block in blocks(page):
        if block.language == "sh" and not block.note.startswith("no-run"):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                cwd=folder,
                env=environ,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, f"{block.place}:\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr, f"{block.place}:\n{done.stderr}"
            printed = done.stdout
        elif block.note == "output":
            assert masked(printed) == masked(block.text), block.place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_json_blocks_are_valid(page: Path):
    if page.name == "spec.md":
        return  # shows problems too: tests/test_spec_docs.py checks every block
    for block in blocks(page):
        if block.language != "json" or block.note.startswith("no-run"):
            continue
        value = json.loads(block.text)
        if "nodes" in value:
            document = value
        elif "kind" in value:
            document = around(value)
        else:
            continue
        names = {"TEAM_VLLM_KEY", *re.findall(r'_env": "(\w+)"', block.text)}
        checked = check(document, allowed_env=names)
        assert checked.errors == (), block.place


def around(source: dict) -> dict:
    """The smallest workflow that uses this source."""
    kinds = {
        "llm": {"type": "llm", "metadata": {}},
        "image": {"type": "image", "metadata": {}},
        "api": {"type": "http", "metadata": {"url": "/"}},
        "db": {"type": "db", "metadata": {"query": "SELECT 1"}},
    }
    node = {"id": "answer", **kinds[source["kind"]]}
    node["metadata"]["source"] = source["id"]
    return {"nodes": [node], "sources": [source], "start_node": "answer"}


def test_links_lead_somewhere():
    missing = []
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                missing.append(f"{page.name}: {target}")
    assert missing == []


def test_readme_is_short_and_begins_with_the_two_commands():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 200
    first_screen = "\n".join(lines[:24])
    positions = [first_screen.index(text) for text in ("make demo", "make test", "docs/limits.md")]
    assert positions == sorted(positions)


def assignments() -> dict[str, str]:
    found = {}
    for line in (ROOT / ".env.example").read_text().splitlines():
        match = re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line)
        if match:
            found[match[1]] = match[2]
        else:
            assert not line or line.startswith("#"), line
    return found


@pytest.mark.parametrize(("name", "value"), assignments().items())
def test_example_setting_parses(name: str, value: str):
    assert value.strip()
    if name in ONLY_COMMAND_LINE:
        return
    changed = settings.load({name: value})
    assert name in settings.ENV.values()
    field = next(field for field, variable in settings.ENV.items() if variable == name)
    assert getattr(changed, field) is not None


def test_example_settings_work_together():
    settings.load(assignments())


def test_every_setting_is_documented():
    wanted = {*settings.ENV.values(), *ONLY_COMMAND_LINE}
    assert set(assignments()) == wanted
    pages = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in sorted(wanted) if f"`{name}" not in pages] == []


def test_uncommented_example_settings_are_the_defaults():
    text = (ROOT / ".env.example").read_text()
    given = dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", text, re.M))
    assert settings.load(given) == settings.load({})


def commands() -> list[str]:
    import typer

    def below(command, path: str) -> list[str]:
        subcommands = getattr(command, "commands", None)
        if not subcommands:
            return [path]
        return [name for key, sub in subcommands.items() for name in below(sub, f"{path} {key}")]

    return below(typer.main.get_command(build([])), "agentflow")


def test_every_command_has_its_heading():
    headings = re.findall(r"^## (agentflow .*)$", (ROOT / "docs" / "cli.md").read_text(), re.M)
    assert sorted(headings) == sorted(commands())


def test_every_exit_code_is_documented():
    from agentflow.cli import outcome

    codes = {
        value for name, value in vars(outcome).items() if name.isupper() and type(value) is int
    }
    rows = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "cli.md").read_text(), re.M)
    assert {int(row) for row in rows} == codes


def test_glossary_has_the_nouns():
    text = (ROOT / "docs" / "glossary.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \|", text, re.M)
    words = {word.strip() for row in rows for word in row.split(",")}
    nouns = "execution step attempt node source queue permit plan event journal coordinator"
    assert {*nouns.split(), "worker pool"} - words == set()


FEATURES = ROOT / "docs" / "features.md"
IDS = [f"F-{number:03}" for number in range(1, 61)] + [f"N-{number:02}" for number in range(1, 16)]
ENTERPRISE = [f"E-{number:02}" for number in range(1, 9)]


def feature_rows() -> dict[str, list[str]]:
    rows = {}
    for line in FEATURES.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"[FNE]-\d+", cells[0]):
            assert cells[0] not in rows, cells[0]
            rows[cells[0]] = cells
    return rows


def test_every_feature_has_a_row():
    assert sorted(feature_rows()) == sorted([*IDS, *ENTERPRISE])


@pytest.mark.parametrize("feature", [*IDS, *ENTERPRISE])
def test_feature_row_is_honest(feature: str):
    _, _, state, where, tests = feature_rows()[feature]
    assert re.fullmatch(r"done|partly \(.+\)|not yet", state), state
    files = re.findall(r"`([^`]+)`", where)
    proofs = re.findall(r"`([^`]+)`", tests)
    if state == "not yet":
        assert files == [] and proofs == []
        return
    assert files, "where it is"
    assert proofs, "what tests it"
    for name in files:
        assert (ROOT / name).exists(), name
    for name in proofs:
        path, _, function = name.partition("::")
        assert (ROOT / path).exists(), name
        assert path.startswith("tests/"), name
        if function:
            assert f"def {function}(" in (ROOT / path).read_text(), name
