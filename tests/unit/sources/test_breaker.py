"""When a source may be called: rules that hold whatever is asked, in whatever order."""

from __future__ import annotations

from collections import deque
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from agentflow.sources.breaker import (
    FAILURES,
    FIRST_PAUSE_S,
    FLOOR,
    LONGEST_PAUSE_S,
    RATIO,
    WINDOW_S,
    Admission,
    Breaker,
    Outcome,
)

LONGEST = LONGEST_PAUSE_S * 1.25


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.ended(now, 0.5, breaker.admit(now, 0.5, retry=False), Outcome.DOWN)
    assert breaker.is_open
    return breaker


def probe(breaker: Breaker, now: float) -> Admission:
    admitted = breaker.admit(now, 0.5, retry=True)
    assert admitted.probe
    return admitted


def test_breaker_opens_after_failures_in_a_row_and_an_answer_in_between_starts_the_count_anew():
    breaker = Breaker()
    for outcome in [Outcome.DOWN] * (FAILURES - 1) + [Outcome.THERE] + [Outcome.DOWN]:
        breaker.ended(0.0, 0.5, breaker.admit(0.0, 0.5, retry=False), outcome)
    assert not breaker.is_open


def test_open_breaker_lets_one_probe_through_and_closes_when_it_is_answered():
    breaker = opened()
    assert breaker.admit(FIRST_PAUSE_S / 2, 0.5, retry=False).wait_s is not None
    later = 2 * FIRST_PAUSE_S
    admitted = probe(breaker, later)
    assert breaker.admit(later, 0.5, retry=False).wait_s is not None
    breaker.ended(later, 0.5, admitted, Outcome.THERE)
    assert not breaker.is_open and breaker.admit(later, 0.5, retry=False).wait_s is None


def test_pause_doubles_with_every_probe_that_fails_up_to_a_bound():
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(7):
        began = now
        while not (admitted := breaker.admit(now, 0.5, retry=True)).probe:
            now += 0.01
        pauses.append(round(now - began))
        breaker.ended(now, 0.5, admitted, Outcome.DOWN)
    assert pauses == [1, 2, 4, 8, 15, 15, 15]


def test_probe_that_was_given_up_is_followed_by_another():
    breaker = opened()
    breaker.ended(2.0, 0.5, probe(breaker, 2.0), Outcome.UNKNOWN)
    assert breaker.is_open and probe(breaker, 2.0)


def test_source_that_asks_to_wait_is_not_down():
    breaker = opened()
    breaker.ended(2.0, 0.5, probe(breaker, 2.0), Outcome.BUSY)
    assert not breaker.is_open


def test_retries_that_are_answered_use_up_nothing():
    breaker = Breaker()
    for _ in range(20 * FLOOR):
        admitted = breaker.admit(0.0, 0.5, retry=True)
        assert admitted.wait_s is None
        breaker.ended(0.0, 0.5, admitted, Outcome.THERE)


def test_those_that_are_turned_away_come_back_spread_over_time():
    breaker, waits, chance = opened(), [], Random(1)
    for _ in range(200):
        wait_s = breaker.admit(0.0, chance.random(), retry=True).wait_s
        assert wait_s is not None
        waits.append(wait_s)
    assert min(waits) >= FIRST_PAUSE_S * 0.75
    busiest = max(sum(start <= wait < start + 1 for wait in waits) for start in range(12))
    assert busiest <= 75 and max(waits) < 12


calls = st.lists(
    st.tuples(st.floats(0, 3), st.booleans(), st.sampled_from(list(Outcome)), st.floats(0, 0.999)),
    max_size=200,
)


@given(calls)
def test_whatever_happens_retries_are_bounded_waits_end_and_an_open_source_gets_one_call(happened):
    """Calls end before the next one is made, so no two are under way."""
    breaker, now = Breaker(), 0.0
    firsts: deque[float] = deque()
    unanswered: deque[float] = deque()
    for pause, retry, outcome, chance in happened:
        now += pause
        was_open = breaker.is_open
        admitted = breaker.admit(now, chance, retry=retry)
        if admitted.wait_s is not None:
            assert was_open or retry
            assert 0 < admitted.wait_s <= LONGEST + 1 + len(happened)
            continue
        assert admitted.probe == was_open
        if not admitted.probe and not retry:
            firsts.append(now)
        elif not admitted.probe and outcome is not Outcome.THERE:
            unanswered.append(now)
            recent = [at for at in unanswered if at > now - WINDOW_S]
            around = [at for at in firsts if at > now - WINDOW_S - 1]
            assert len(recent) <= FLOOR + RATIO * len(around) + 1
        breaker.ended(now, chance, admitted, outcome)


@given(st.lists(st.sampled_from([Outcome.DOWN, Outcome.UNKNOWN]), max_size=50))
def test_source_that_is_there_again_is_called_again_within_the_longest_pause(before):
    breaker, now = opened(), 0.0
    for outcome in before:
        admitted = breaker.admit(now, 0.5, retry=True)
        if admitted.wait_s is None:
            breaker.ended(now, 0.5, admitted, outcome)
        now += 1.0
    now += LONGEST
    breaker.ended(now, 0.5, probe(breaker, now), Outcome.THERE)
    assert breaker.admit(now, 0.5, retry=False).wait_s is None
