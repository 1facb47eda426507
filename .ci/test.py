"""Runs every check, folder by folder (some beside the others), and ends with the totals."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
FOLDER_LIMIT_S = 7200 if os.environ.get("AGENTFLOW_SOAK") else 1500
CORE = "agentflow/spec/*,agentflow/plan/*,agentflow/execution/*"
CORE_COVERED = 95
"""Percent of these folders that the tests must reach; of everything, see pyproject.toml."""
COMPUTING = ("cli", "execution", "plan", "spec")
"""Of the unit tests; the others have servers, and time limits."""
BESIDE = ("oracle", "simulator", "unit-computing")
"""Folders that only compute. They run beside the others and give way to them: most others wait most of
the time, and some look at the time."""
STATIC = (
    ("ruff check", ["ruff", "check", "."]),
    ("ruff format", ["ruff", "format", "--check", "."]),
    ("lint-imports", ["lint-imports", "--no-cache"]),
    ("mypy", ["mypy"]),
)


def main() -> int:
    os.chdir(ROOT)
    broken = [name for name, command in STATIC if not static(name, command)]
    if "--static" in sys.argv:
        return bool(broken)
    work = Path(tempfile.mkdtemp(prefix="agentflow-test-"))
    try:
        results = everything(work)
        covered = coverage(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return summary(broken, results, covered)


def static(name: str, command: list[str]) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], capture_output=True, text=True, env=plain()
    )
    good = done.returncode == 0
    print(f"{name}: {'ok' if good else 'FAILED'} ({time.monotonic() - began:.0f} s)", flush=True)
    if not good:
        print(done.stdout[-8000:] + done.stderr[-4000:], flush=True)
    return good


def folders() -> list[tuple[str, list[str]]]:
    """The tests at the top first, then each folder below."""
    tests = ROOT / "tests"
    top = [str(path.relative_to(ROOT)) for path in sorted(tests.glob("test_*.py"))]
    below = sorted(
        path for path in tests.iterdir() if path.is_dir() and any(path.rglob("test_*.py"))
    )
    found = [("tests", top), *((path.name, [f"tests/{path.name}"]) for path in below)]
    unit = [f"tests/unit/{name}" for name in COMPUTING]
    others = [path for path in sorted((tests / "unit").iterdir()) if path.name not in COMPUTING]
    rest = [
        str(path.relative_to(ROOT))
        for path in others
        if path.match("test_*.py") or (path.is_dir() and any(path.rglob("test_*.py")))
    ]
    found = [(name, rest if name == "unit" else paths) for name, paths in found]
    return [*found, ("unit-computing", unit)]


def everything(work: Path) -> list[dict]:
    """The folders in two rows at once; what those beside print comes when each of them is over."""
    beside = [(name, paths) for name, paths in folders() if name in BESIDE]
    first = [(name, paths) for name, paths in folders() if name not in BESIDE]
    with ThreadPoolExecutor(1) as pool:
        later = [pool.submit(folder, name, paths, work, quiet=True) for name, paths in beside]
        results = [folder(name, paths, work) for name, paths in first]
        return results + [each.result() for each in later]


def folder(name: str, paths: list[str], work: Path, quiet: bool = False) -> dict:
    """One folder's tests. ``quiet``: with low priority, and printed when it is over."""
    report = work / f"{name}.xml"
    began = time.monotonic()
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", *paths]
    command += [f"--junit-xml={report}", "-o", f"cache_dir={work / 'cache'}"]
    measured = {
        **plain(),
        "COVERAGE_FILE": str(work / "data" / ".coverage"),
        "COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"),
    }
    (work / "data").mkdir(exist_ok=True)
    if quiet:
        command = ["nice", "-n", "10", *command]
    else:
        print(f"\n== {name}", flush=True)
    said = (work / f"{name}.log").open("w+") if quiet else None
    try:
        code = subprocess.run(
            command, env=measured, timeout=FOLDER_LIMIT_S, stdout=said, stderr=said
        ).returncode
    except subprocess.TimeoutExpired:
        code = 124
        print(f"{name}: stopped after {FOLDER_LIMIT_S} s", flush=True)
    if said is not None:
        with said:
            said.seek(0)
            print(f"\n== {name} (beside the others)\n{said.read()}", flush=True)
    minutes = (time.monotonic() - began) / 60
    found = read(report) if report.exists() else {"passed": 0, "failed": 1, "skips": []}
    if code and not found["failed"]:
        found["failed"] = 1
    print(f"{name}: {minutes:.1f} min", flush=True)
    return {"name": name, "minutes": minutes, **found}


def read(report: Path) -> dict:
    passed, failed, skips = 0, 0, []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif skipped is not None:
            reason = " ".join((skipped.get("message") or "no reason given").split())
            skips.append(f"{case.get('classname')}.{case.get('name')}: {reason}")
        else:
            passed += 1
    return {"passed": passed, "failed": failed, "skips": skips}


def coverage(work: Path) -> bool:
    tool = [sys.executable, "-m", "coverage"]
    environ = {**plain(), "COVERAGE_FILE": str(work / ".coverage")}
    parts = sorted(str(path) for path in (work / "data").glob(".coverage*"))
    if not parts:
        return False
    print("\n== coverage over all folders", flush=True)
    subprocess.run([*tool, "combine", "--quiet", *parts], env=environ, check=True)
    good = True
    for what in ([], [f"--include={CORE}", f"--fail-under={CORE_COVERED}"]):
        report = [*tool, "report", "--skip-covered", "--sort=cover", *what]
        done = subprocess.run(report, env=environ, capture_output=True, text=True)
        print(done.stdout + done.stderr, flush=True)
        good = good and done.returncode == 0
    return good


def summary(broken: list[str], results: list[dict], covered: bool) -> int:
    skips = [skip for result in results for skip in result["skips"]]
    passed, failed = (sum(result[key] for result in results) for key in ("passed", "failed"))
    print(
        "minutes: " + ", ".join(f"{result['name']} {result['minutes']:.1f}" for result in results)
    )
    for name in broken:
        print(f"FAILED: {name}")
    if not covered:
        print("FAILED: coverage (below the limit, or not measured)")
    for result in results:
        if result["failed"]:
            print(f"FAILED: {result['failed']} in {result['name']}")
    for skip in skips:
        print(f"skipped: {skip}")
    print(f"{passed} passed, {failed} failed, {len(skips)} skipped", flush=True)
    return int(bool(broken or failed or not covered))


def plain() -> dict[str, str]:
    """The environment without settings of AgentFlow that would reach the tests by accident."""
    ours = re.compile(
        r"^(AGENTFLOW_(?!SOAK)|API_KEY$|DATABASE_URL$|PORT$|LOG_LEVEL$|CORS_ORIGINS$)"
    )
    return {name: value for name, value in os.environ.items() if not ours.match(name)}


if __name__ == "__main__":
    sys.exit(main())
