"""Copies of the product to try: as it is, and deliberately broken ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]


class Change(msgspec.Struct, frozen=True):
    """A replaced text; it stands in the file exactly once."""

    file: str
    old: str
    new: str


class Build(msgspec.Struct, frozen=True):
    """What is tried. ``drill`` names what makes a broken one show (see drills.py), ``breaks`` the rules
    by which it may be found out."""

    name: str = "as it is"
    changes: tuple[Change, ...] = ()
    drill: str = ""
    breaks: tuple[str, ...] = ()


def place(build: Build, folder: Path) -> Path:
    """Copy the product into a folder, with the changes made; the copy's root.

    The campaign tries one state of the source from its beginning to its end, whoever edits it meanwhile.
    Raises LookupError where a text is not there exactly once.
    """
    shutil.copytree(
        ROOT / "agentflow", folder / "agentflow", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "serve_app.py", folder)
    for change in build.changes:
        path = folder / change.file
        source = path.read_text()
        if source.count(change.old) != 1:
            raise LookupError(f"{change.file}: {source.count(change.old)} times {change.old!r}")
        path.write_text(source.replace(change.old, change.new))
    return folder


REAL = Build()
