"""``db`` nodes: one SQL statement, with the state's values bound to it.

The rows become the result, or, where they are to be a file, the content of a blob that the result names.
"""

from __future__ import annotations

import time
from typing import Any, cast

from agentflow.errors import InvalidInput
from agentflow.nodes.base import StepContext, StepResult
from agentflow.nodes.names import declared_names
from agentflow.nodes.rowfiles import MIME_TYPES, row_file
from agentflow.sources.sql import SqlRequest, SqlService, as_csv
from agentflow.spec.templates import look_up, paths, resolve_values

Json = Any
_ABSENT = object()


class DbNode:
    """Binds the parameters, executes the statement, gives its rows."""

    async def run(self, context: StepContext) -> StepResult:
        """``{rows, row_count, truncated, duration_s}``; the state field takes the rows, or for format
        ``csv`` the text. For ``jsonl`` and ``parquet`` ``{blob, format, columns, row_count, truncated,
        duration_s}``; the field takes the blob. Raises StepError."""
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
        if options["format"] in MIME_TYPES:
            return await _filed(context, source, request, began)
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


async def _filed(
    context: StepContext, source: SqlService, request: SqlRequest, began: float
) -> StepResult:
    """The rows as a file in the blob store. Nothing is left of one that does not come to its end."""
    options = context.options
    async with context.blob(MIME_TYPES[options["format"]]) as blob:
        file = row_file(options["format"], blob.write)
        reply = await source.execute(request, file)
        await file.finish()
        kept = await blob.keep()
    result = {
        "blob": kept.as_json(),
        "format": options["format"],
        "columns": [{"name": column.name, "type": column.type} for column in file.columns],
        "row_count": reply.row_count,
        "truncated": reply.truncated,
        "duration_s": round(time.monotonic() - began, 6),
    }
    return StepResult(result=result, delta={options["output_key"]: result["blob"]})


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
