"""How a broken connection becomes a step error: only what proves that nothing happened may say so."""

from __future__ import annotations

import pytest

from agentflow.errors import CallTimeout, ConnectionFailed, ProviderUnavailable, StepError
from agentflow.sources.refusals import lost_connection, retry_after

HERE = ConnectionFailed("No connection to 'h'", after=3.0)


def wrapped(cause: BaseException | None) -> Exception:
    """An error as an SDK raises it: around what the way out said, or around nothing."""
    error = RuntimeError("Connection error.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (HERE, ConnectionFailed),
        (wrapped(HERE), ConnectionFailed),
        (TimeoutError(), CallTimeout),
        (OSError("reset"), ProviderUnavailable),
        (None, ProviderUnavailable),
    ],
)
def test_lost_connection_is_what_the_way_out_says(
    cause: BaseException | None, expected: type[StepError]
) -> None:
    error = lost_connection("Model 'm'", wrapped(cause))
    assert type(error) is expected
    assert error.uncounted == (expected is ConnectionFailed)


@pytest.mark.parametrize(
    "wish", ["Mon, 01 Jan 99999 00:00:00 GMT", f"Mon, 01 Jan 2026 {'9' * 400}:00:00 GMT", "soon"]
)
def test_pause_until_a_day_that_is_none_is_no_wish(wish: str) -> None:
    assert retry_after({"retry-after": wish}) is None
