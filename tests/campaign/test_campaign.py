"""A short campaign: the whole system on Ray, killed, stopped and cut off while it is used over HTTP.

A longer one, and the deliberately broken builds: ``make soak MINUTES=60``.
"""

from __future__ import annotations

import os

import pytest

from tests.campaign.builds import BROKEN, REAL, Build
from tests.campaign.campaign import campaign
from tests.campaign.drills import drill
from tests.campaign.report import markdown
from tests.campaign.world import ALONE

pytestmark = pytest.mark.cluster

SOAK = bool(os.environ.get("AGENTFLOW_SOAK"))
MINUTES = 5.0 if SOAK else 0.45
QUICK = [build for build in BROKEN if build.name == "dispatch before commit"]
ON_ONE_PROCESS = tuple(dict.fromkeys(build.drill for build in BROKEN if build.alone))
KINDS = (
    "worker killed",
    "coordinator killed",
    "coordinator stopped",
    "API replica killed",
    "database process killed",
    "connections cut after n bytes",
    "network black hole",
    "other database killed",
    "other database: connections cut after n bytes",
    *(("worker stopped",) if SOAK else ()),
)


async def test_short_campaign_breaks_no_promise():
    outcome = await campaign(MINUTES, seed=11, kinds=KINDS, users=12, nodes=1, gap_s=0.4, least=4)
    assert outcome.verdict.violations == [], markdown(outcome)
    assert len(outcome.history.noted) > 5
    assert len({fault.kind for fault in outcome.hit}) >= 4, markdown(outcome)
    assert outcome.verdict.in_flight > 0


@pytest.mark.parametrize("build", BROKEN if SOAK else QUICK, ids=lambda build: build.name)
async def test_broken_build_is_found_out(build: Build):
    caught = await drill(build)
    assert set(caught.rules) & set(build.breaks), caught


@pytest.mark.skipif(not SOAK, reason="the campaign tries this build too; make soak has its drills")
async def test_build_as_it_is_passes_the_drills():
    assert (await drill(REAL, *ON_ONE_PROCESS, system=ALONE)).rules == ()
