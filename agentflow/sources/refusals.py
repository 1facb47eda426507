"""How a provider's refusal becomes the step error of exactly the right type."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping
from typing import Any

from agentflow.errors import (
    CallTimeout,
    ContentFiltered,
    ContextLengthExceeded,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)

Json = Any
LONGEST_WAIT_S = 3600.0
_TOO_LONG = re.compile(
    r"context.{0,12}(length|window|size)|maximum context|too many tokens|prompt is too long"
    r"|exceeds the maximum number of tokens",
    re.I,
)

_FILTERED = ("content_filter", "content_policy_violation", "moderation_blocked", "contentFilter")
"""Codes of requests that a content filter refused; the last one is Azure's, for pictures."""


def refusal(
    where: str,
    *,
    status: int | None,
    headers: Mapping[str, str],
    code: str,
    said: str,
    credential: str | None,
) -> StepError:
    """The step error of an answer that is an error.

    ``where`` names model and address, ``status`` is None inside a stream, ``said`` is safe to show,
    ``credential`` is the name of the variable that was used.
    """
    if status in (401, 403):
        held = f"the credential in {credential}" if credential else "a call without a credential"
        way_out = "check its value" if credential else "name one with api_key_env"
        return ProviderAuthError(f"{where} refused {held} with {status}; {way_out}")
    if status == 404:
        return ProviderRejected(
            f"{where} does not exist (404): check the source's model and base_url. {said}"
        )
    if status == 429 and code == "insufficient_quota":
        return ProviderRejected(f"{where} refused: the account's quota is used up (429)")
    if status == 429:
        after = retry_after(headers)
        wish = "" if after is None else f"; it asks for a pause of {after:g} s"
        return ProviderRateLimited(f"{where} answered 429: too many requests{wish}", after=after)
    if status is not None and (status in (408, 409) or status >= 500):
        return ProviderUnavailable(f"{where} answered {status}. {said}", after=retry_after(headers))
    if code == "context_length_exceeded" or _TOO_LONG.search(said):
        return ContextLengthExceeded(
            f"The request is longer than {where} takes; shorten the prompt or lower max_tokens. "
            f"{said}"
        )
    if code in _FILTERED:
        return ContentFiltered(
            f"The content filter of {where} refused the request; change the prompt. {said}"
        )
    if status is None:
        return ProviderUnavailable(f"{where} failed. {said}")
    return ProviderRejected(f"{where} refused the request with {status}. {said}")


def lost_connection(where: str, error: BaseException) -> StepError:
    """The step error of a call whose connection failed, as an SDK wraps it.

    The way out (agentflow.egress) says what happened, so its error is the answer. Where it says
    nothing, the request may have arrived: only a refused connection proves that nothing happened.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StepError):
            return cause
        if isinstance(cause, TimeoutError):
            return CallTimeout(f"{where} did not answer in time")
        cause = cause.__cause__
    return ProviderUnavailable(f"The connection to {where} broke before it answered")


def said(body: Json) -> str:
    """What the provider itself said, from the places of an error's body where such servers put it."""
    words = body
    if isinstance(body, Mapping):
        inner = body.get("error")
        body = inner if isinstance(inner, Mapping) else body
        words = body.get("message") or body.get("detail") or inner
    return f"It said: {words}" if isinstance(words, str) and words.strip() else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asked us to wait, at most an hour; None if it did not say."""
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) / divisor
        except ValueError:
            when = email.utils.parsedate_tz(text) if text else None
            if when is None:
                continue
            try:
                seconds = email.utils.mktime_tz(when) - time.time()
            except (ValueError, OverflowError):  # no such day
                continue
        if math.isfinite(seconds):
            return min(max(seconds, 0.0), LONGEST_WAIT_S)
    return None
