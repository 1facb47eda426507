"""A short campaign: the whole system on Ray, killed, stopped and cut off while it is used over HTTP.

A longer one, and the deliberately broken builds: ``make soak MINUTES=60``.
"""

from __future__ import annotations

import os

import pytest

from tests.campaign.builds import Build
from tests.campaign.campaign import campaign
from tests.campaign.drills import BROKEN, drill
from tests.campaign.report import markdown

pytestmark = pytest.mark.cluster

SOAK = bool(os.environ.get("AGENTFLOW_SOAK"))
MINUTES = 5.0 if SOAK else 0.6
TRIED = BROKEN if SOAK else [build for build in BROKEN if build.name == "dispatch before commit"]
KINDS = (
    "worker killed",
    "worker stopped",
    "coordinator killed",
    "coordinator stopped",
    "API replica killed",
    "database process killed",
    "connections cut after n bytes",
    "network black hole",
)


async def test_short_campaign_breaks_no_promise():
    outcome = await campaign(MINUTES, seed=11, kinds=KINDS, users=8, nodes=1, gap_s=0.7)
    assert outcome.verdict.violations == [], markdown(outcome)
    assert len(outcome.history.noted) > 10
    hit = {fault.kind for fault in outcome.hit}
    assert len(hit) >= 4, markdown(outcome)
    assert outcome.verdict.in_flight > 0


@pytest.mark.parametrize("build", TRIED, ids=lambda build: build.name)
async def test_broken_build_is_found_out(build: Build):
    caught = await drill(build)
    assert set(caught.rules) & set(build.breaks), caught
