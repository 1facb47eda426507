"""What callers give: checked before anything is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentflow.errors import InvalidInput

if TYPE_CHECKING:
    from agentflow.plan.plan import Plan

Json = Any


def as_json(
    given: dict[str, Json] | None, what: str = "initial_state and metadata"
) -> dict[str, Json]:
    """What a caller gives, as the journal will give it back. Raises InvalidInput."""
    from agentflow.engine.plain import plain

    try:
        kept: dict[str, Json] = plain(given or {})
    except ValueError as error:
        raise InvalidInput(f"{what} must be JSON: {error}") from error
    return kept


def check_input(plan: Plan, spec: dict[str, Json], initial_state: dict[str, Json]) -> None:
    """``initial_state`` is checked before an execution exists. Raises InvalidInput."""
    from agentflow.engine.evaluation import require_fit

    require_fit({field.name: field for field in plan.fields}, None, initial_state)
    schema = spec.get("input_schema")
    if schema is None:
        return
    from agentflow.spec.schema import first_mismatch

    mismatch = first_mismatch(schema, initial_state)
    if mismatch is not None:
        raise InvalidInput(f"initial_state does not fit input_schema: {mismatch}")
