"""The peers' environments, one folder each under ``.bench/``. `python -m benchmarks.peers.environments`.

Sets up what is named (without names: everything) and says what it does; what is there already is left alone.
A peer whose environment cannot be had here is skipped with its reason. Versions are pinned: those of
Python in ``requirements/NAME.txt``, those of npm in ``requirements/NAME.npm.txt``.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HOME = ROOT / ".bench"
REQUIREMENTS = HERE / "requirements"
STAMP = "installed.txt"
LIMIT_S = 900.0


class EnvironmentMissing(Exception):
    """A peer cannot run here; the text names what is missing and the way out."""


@dataclass(frozen=True)
class Peer:
    """A system under comparison. ``name``: in tables and on the command line; ``module``: its adapter."""

    name: str
    environment: str
    module: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """The adapter's command line without its options; to be started in the folder of the project.
        See ``serving`` for what it says and hears."""
        return (str(python(self.environment)), "-m", f"benchmarks.peers.{self.module}")


PEERS = {
    peer.name: peer
    for peer in (
        Peer("langgraph_memory", "langgraph", "langgraph_memory"),
        Peer("langgraph_postgres", "langgraph", "langgraph_postgres"),
        Peer("dbos", "dbos", "dbos_postgres"),
        Peer("restate", "restate", "restate_server"),
        Peer("celery", "celery", "celery_redis"),
        Peer("prefect", "prefect", "prefect_server"),
    )
}
ENVIRONMENTS = tuple(dict.fromkeys(peer.environment for peer in PEERS.values()))


def python(environment: str, home: Path = HOME) -> Path:
    return home / environment / "bin" / "python"


def pins(environment: str) -> tuple[Path, list[str]]:
    """The file of an environment's Python packages, and what it has of npm."""
    packages = REQUIREMENTS / f"{environment}.txt"
    of_node = REQUIREMENTS / f"{environment}.npm.txt"
    return packages, of_node.read_text().split() if of_node.exists() else []


def fingerprint(environment: str) -> str:
    packages, of_node = pins(environment)
    told = [packages.read_text(), *of_node, sys.version]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def is_ready(environment: str, home: Path = HOME) -> bool:
    """Whether it is there, complete, and of the versions pinned now."""
    stamp = home / environment / STAMP
    return (
        python(environment, home).exists()
        and stamp.exists()
        and stamp.read_text() == fingerprint(environment)
    )


def missing(peer: Peer, home: Path = HOME) -> str | None:
    """Why this peer cannot be run now, with the command that helps; None when it can."""
    if is_ready(peer.environment, home):
        return None
    return (
        f"The environment of {peer.name} is not set up: "
        f"run `python -m benchmarks.peers.environments {peer.environment}`."
    )


def find_uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def call(command: list[str], purpose: str) -> None:
    """Raises:
    EnvironmentMissing: it failed, or took longer than ``LIMIT_S``; with the last that it said.
    """
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as slow:
        raise EnvironmentMissing(f"{purpose} took longer than {LIMIT_S:.0f} s.") from slow
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-600:]
        raise EnvironmentMissing(
            f"{purpose} failed (`{command[0]}` ended with {done.returncode}): {said}"
        )


def install_python(environment: str, packages: Path) -> None:
    home = str(HOME / environment)
    interpreter = str(python(environment))
    if uv := find_uv():
        call([uv, "venv", "-q", "--clear", "--python", sys.executable, home], "Making its venv")
        install = [uv, "pip", "install", "-q", "--no-deps", "--python", interpreter]
    else:
        call([sys.executable, "-m", "venv", "--clear", home], "Making its venv")
        install = [interpreter, "-m", "pip", "install", "-q", "--no-deps"]
    call([*install, "-r", str(packages)], f"Installing {packages.name}")


def install_node(environment: str, packages: list[str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise EnvironmentMissing(
            f"npm is missing, which {', '.join(packages)} comes from: "
            "install it, on Debian with `apt-get install npm`."
        )
    quiet = ["--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error"]
    command = [npm, "install", "--prefix", str(HOME / environment), *quiet, *packages]
    call(command, f"Installing {', '.join(packages)}")


def set_up(environment: str) -> str:
    """Make it what the pins say; what was done, in words.

    Raises:
        EnvironmentMissing: something is missing on this machine, or could not be installed.
    """
    if is_ready(environment):
        return "is there"
    packages, of_node = pins(environment)
    HOME.mkdir(exist_ok=True)
    install_python(environment, packages)
    if of_node:
        install_node(environment, of_node)
    (HOME / environment / STAMP).write_text(fingerprint(environment))
    return f"set up in {(HOME / environment).relative_to(ROOT)}"


def main(asked: list[str]) -> int:
    known = {**{name: peer.environment for name, peer in PEERS.items()}}
    known |= {name: name for name in ENVIRONMENTS}
    if unknown := [name for name in asked if name not in known]:
        print(f"Unknown: {', '.join(unknown)}. There are {', '.join(known)}.", file=sys.stderr)
        return 2
    wanted = dict.fromkeys(known[name] for name in asked) if asked else ENVIRONMENTS
    skipped = 0
    for environment in wanted:
        print(f"{environment}: ...", file=sys.stderr, flush=True)
        try:
            print(f"{environment}: {set_up(environment)}", file=sys.stderr)
        except EnvironmentMissing as reason:
            skipped += 1
            print(f"{environment}: skipped. {reason}", file=sys.stderr)
    return 1 if asked and skipped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
