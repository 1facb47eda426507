"""Options of ``wait`` nodes."""

from __future__ import annotations

import re
from datetime import datetime

from pydantic import Field

from agentflow.spec.kinds.base import VALUES, Complaint, NodeKind, Options, OptionsModel, Text
from agentflow.spec.kinds.values import Name, Seconds, Word, is_expression

WAYS = ("seconds", "until", "signal")
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?\d*([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


class WaitOptions(OptionsModel):
    """Waits for a time or a signal: exactly one of seconds, until and signal."""

    seconds: Seconds | None = Field(None, description="How long, in seconds.")
    until: Word | None = Field(
        None,
        description="Until when: a time with its zone (RFC 3339), or ${expression}.",
        examples=["2027-01-01T09:00:00Z"],
    )
    signal: Name | None = Field(
        None,
        description="The name of a signal sent to the execution. One that comes before the wait is kept "
        "for it.",
    )
    expires_s: Seconds | None = Field(
        None, description="Seconds after which the wait for a signal fails. Null: never."
    )
    output_key: Word | None = Field(
        None, description="State field that takes the payload of the signal."
    )


def _complaints(options: Options) -> tuple[Complaint, ...]:
    given = [name for name in WAYS if options.get(name) is not None]
    if not given:
        return ((("seconds",), "is missing: give one of 'seconds', 'until' and 'signal'"),)
    if len(given) > 1:
        return (((given[1],), f"cannot be used together with {given[0]!r}"),)
    idle = [name for name in ("expires_s", "output_key") if options.get(name) is not None]
    if idle and options.get("signal") is None:
        return (((idle[0],), "is never used: only a wait for a 'signal' has it"),)
    until = options.get("until")
    if until is not None and not is_expression(until) and seconds_of(until) is None:
        text = "must be a time with its zone, such as 2027-01-01T09:00:00Z, or ${expression}"
        return ((("until",), text),)
    return ()


def seconds_of(text: str) -> float | None:
    """Seconds since the epoch of a time with its zone (RFC 3339); None when the text is none."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    zone = "+00:00" if found[2] in "Zz" else found[2]
    try:
        whole = datetime.fromisoformat(text[:19] + zone)
        return whole.timestamp() + float(found[1] or 0)
    except (ValueError, OverflowError):
        return None


def _texts(options: Options) -> tuple[Text, ...]:
    return (Text(("until",), VALUES, options["until"]),) if options.get("until") else ()


KIND = NodeKind(
    type="wait",
    options=WaitOptions,
    texts=_texts,
    sources=lambda options: (),
    complaints=_complaints,
)
