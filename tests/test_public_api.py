"""What `import agentflow` gives, and what it costs."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import agentflow

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "ray",
    "langgraph",
    "fastapi",
    "starlette",
    "openai",
    "anthropic",
    "google.genai",
    "asyncpg",
)
LIMIT_MS = 150


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_public_names_are_exact():
    assert agentflow.__all__ == [
        "AgentFlowError",
        "Checked",
        "ExecutionRecord",
        "Flow",
        "Plan",
        "Problem",
        "Settings",
        "SpecInvalid",
        "StepError",
        "WorkflowSpec",
        "__version__",
        "check",
        "compile_plan",
        "load",
        "open_local",
        "parse",
        "workflow_schema",
    ]
    assert agentflow.__all__ == sorted(set(agentflow.__all__))


def test_every_public_name_exists_and_is_documented():
    for name in agentflow.__all__:
        value = getattr(agentflow, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name


def test_type_stub_has_the_same_names():
    stub = (ROOT / "agentflow" / "__init__.pyi").read_text()
    names = re.findall(r" as (\w+)$", stub, re.M)
    assert sorted([*names, "__version__"]) == agentflow.__all__


def test_unknown_name_is_an_attribute_error():
    assert not hasattr(agentflow, "no_such_name")


def test_version_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert agentflow.__version__ == project["version"]


def test_import_brings_nothing_heavy():
    loaded = json.loads(
        python("import sys, json, agentflow; print(json.dumps(sorted(sys.modules)))")
    )
    assert [name for name in loaded if name in HEAVY or name.split(".")[0] in HEAVY] == []


def test_command_line_brings_nothing_heavy():
    code = "import sys, json, agentflow.cli.main; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(python(code))
    assert [name for name in loaded if name.split(".")[0] in {*HEAVY, "rich", "httpx2"}] == []


def test_import_is_fast():
    """The best of five counts: the machine may be busy, the import is not slower for that."""
    code = "import time; t = time.perf_counter(); import agentflow; print(time.perf_counter() - t)"
    assert min(float(python(code)) for _ in range(5)) * 1000 < LIMIT_MS


def test_package_is_typed():
    assert (ROOT / "agentflow" / "py.typed").exists()


def test_no_private_name_is_imported_across_files():
    """Underscored names stay in their file."""
    pattern = re.compile(r"^from agentflow\.?\S* import (.+)$", re.M)
    found = [
        f"{path.relative_to(ROOT)}: {name.strip()}"
        for path in (ROOT / "agentflow").rglob("*.py")
        for names in pattern.findall(path.read_text())
        for name in names.strip("()").split(",")
        if name.strip().startswith("_") and not name.strip().startswith("__")
    ]
    assert found == []
