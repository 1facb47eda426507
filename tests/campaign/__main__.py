"""``python -m tests.campaign --minutes N --seed S --report FILE``."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from pathlib import Path

from tests.campaign import report
from tests.campaign.builds import REAL
from tests.campaign.campaign import USERS, campaign
from tests.campaign.drills import broken_builds
from tests.campaign.kinds import KINDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--builds", action="store_true", help="deliberately broken builds, too")
    parser.add_argument("--report", type=Path, default=None, help="a document with the two marks")
    parser.add_argument(
        "--keep", type=Path, default=None, help="a folder for ledger, notes and logs"
    )
    parser.add_argument(
        "--kinds", default="", help="of faults, separated by commas; all without it"
    )
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    kinds = tuple(filter(None, given.kinds.split(",")))
    known = [kind.name for kind in KINDS]
    if unknown := set(kinds) - set(known):
        parser.error(f"unknown: {unknown}; there are {known}")
    print(f"campaign of {given.minutes:g} minutes, seed {seed}", flush=True)
    outcome = asyncio.run(
        campaign(given.minutes, seed, kinds=kinds, users=given.users, keep=given.keep, say=_say)
    )
    print(report.markdown(outcome), flush=True)
    if given.builds:
        outcome.caught = asyncio.run(broken_builds(_say))
        print(report.markdown(outcome), flush=True)
    if given.report is not None:
        report.put(given.report, report.markdown(outcome))
    wrong = [each for each in outcome.caught if bool(each.rules) == (each.build == REAL.name)]
    for each in wrong:
        print(f"{each.build}: {'; '.join(each.rules) or 'not caught'}", flush=True)
    return int(bool(outcome.verdict.violations or wrong))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
