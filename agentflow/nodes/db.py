"""``db`` nodes: one SQL statement, with the state's values bound to it."""

from __future__ import annotations

import time
from typing import Any, cast

from agentflow.errors import InvalidInput
from agentflow.nodes.base import StepContext, StepResult
from agentflow.nodes.names import declared_names
from agentflow.sources.sql import SqlRequest, SqlService, as_csv
from agentflow.spec.templates import look_up, paths, resolve_values

Json = Any
_ABSENT = object()


class DbNode:
    """Binds the parameters, executes the statement, gives its rows."""

    async def run(self, context: StepContext) -> StepResult:
        """``{rows, row_count, truncated, duration_s}``; the state field takes the rows, or for format
        ``csv`` the text. Raises StepError."""
        options = context.options
        source = cast(SqlService, await context.source(options["source"]))
        request = SqlRequest(
            text=options["query"],
            values=_values(context),
            mode=options["mode"],
            limit=options["limit"],
            offset=options["offset"],
            timeout_s=options.get("timeout_s"),
            key=context.key(),
            attempt=context.attempt,
        )
        began = time.monotonic()
        reply = await source.execute(request)
        rows = as_csv(reply) if options["format"] == "csv" else reply.rows
        result = {
            "rows": rows,
            "row_count": reply.row_count,
            "truncated": reply.truncated,
            "duration_s": round(time.monotonic() - began, 6),
            **({"repeated": True} if reply.repeated else {}),
        }
        return StepResult(result=result, delta={options["output_key"]: rows})


def _values(context: StepContext) -> dict[str, Json]:
    """What is bound, by the name or the path of its placeholder. Raises InvalidInput, ExpressionError."""
    options = context.options
    declared = declared_names(context)
    values: dict[str, Json] = {}
    for place in paths(options["query"]):
        value = look_up(context.view, place.path, _ABSENT)
        if value is _ABSENT:
            raise InvalidInput(f"The statement names {{{'.'.join(place.path)}}}, which is absent")
        values[".".join(place.path)] = value
    values |= resolve_values(options["params"], context.view, declared)
    if options.get("cursor") is not None:
        values["cursor"] = resolve_values(options["cursor"], context.view, declared)
    return values
