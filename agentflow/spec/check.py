"""Everything that is wrong with a spec, found at once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec

from agentflow.errors import SpecInvalid
from agentflow.spec.environment import DEFAULT_ALLOWED
from agentflow.spec.normal import canonical
from agentflow.spec.problems import Problem, order, problem
from agentflow.spec.reading import MAX_NESTING, nesting, parse, unfit_value, with_positions

__all__ = ["Checked", "Problem", "check", "check_text", "parse"]

Json = Any
Priced = Callable[[str, str, str | None], bool | None]
_HOLDERS = ("map", "subworkflow")
"""Node types that may hold documents of their own."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a check. ``normalized`` is the canonical form, None when there are errors."""

    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    normalized: dict[str, Json] | None = None

    @property
    def valid(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def to_json(self) -> dict[str, Json]:
        """The wire form: ``{valid, errors, warnings}``."""
        return {
            "valid": self.valid,
            "errors": [found.to_json() for found in self.errors],
            "warnings": [found.to_json() for found in self.warnings],
        }


def check_text(text: bytes | str, **options: Any) -> Checked:
    """Parse and check; never raises. ``options``: those of :func:`check`."""
    try:
        document = parse(text)
    except SpecInvalid as error:
        return Checked(errors=error.problems)
    decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    return check(document, text=decoded, **options)


def check(
    document: Json,
    *,
    text: str | None = None,
    allowed_env: Collection[str] = DEFAULT_ALLOWED,
    stored_sources: Collection[str] = (),
    present_env: Collection[str] | None = None,
    priced: Priced | None = None,
    workflows: Callable[[str], Json] | None = None,
    workflow_id: str | None = None,
) -> Checked:
    """Check any JSON value against every rule; pure, and never raises.

    ``text``: the document as the author wrote it, for line and column. ``allowed_env``: names of
    environment variables that the operator allows beside the documented ones. ``stored_sources``:
    ids of sources known to the server. ``present_env``: names that are set there (W009), or None when
    that is not to be judged. ``priced``: whether the price of (provider, model, base URL) is known,
    None for what it cannot tell (W010); without it prices are not judged.
    ``workflows``: the document of a stored workflow by its id, None for one that is not known; without
    it nobody looks whether workflows lead back to themselves by ids. ``workflow_id``: the id of this one.
    """
    found, normalized = _find(
        document, allowed_env, stored_sources, present_env, priced, workflows, workflow_id
    )
    located = order(with_positions(found, text))
    errors = tuple(p for p in located if p.code.startswith("E"))
    warnings = tuple(p for p in located if p.code.startswith("W"))
    return Checked(errors=errors, warnings=warnings, normalized=None if errors else normalized)


def _find(
    document: Json,
    allowed_env: Collection[str],
    stored_sources: Collection[str],
    present_env: Collection[str] | None,
    priced: Priced | None,
    workflows: Callable[[str], Json] | None,
    workflow_id: str | None,
) -> tuple[list[Problem], dict[str, Json] | None]:
    if nesting(document) > MAX_NESTING:
        text = f"The document is nested deeper than {MAX_NESTING} levels"
        return [problem("E026", text)], None
    unfit = unfit_value(document)
    if unfit is not None:
        return [problem("E001", unfit[1], unfit[0])], None
    if not isinstance(document, dict):
        text = "A workflow is a JSON object with 'nodes' and 'start_node'"
        return [problem("E001", text, hint=f"This is {_named(document)}")], None

    from agentflow.spec.rules.draft import Draft

    draft = Draft(
        canonical(document),
        stored_sources=stored_sources,
        allowed_env=allowed_env,
        present_env=present_env,
    )
    _examine(draft, priced)
    if workflows is not None and not draft.has("E026"):
        from agentflow.spec.rules.bodies import check_recursion

        check_recursion(draft, workflows, workflow_id)
    return draft.found, draft.document


def _examine(draft: Any, priced: Priced | None) -> None:
    """Every stage, for a document and for those inside it."""
    from agentflow.spec.rules.shape import check_shape

    check_shape(draft)
    _later_stages(draft, priced)
    if not draft.has("E026") and any(n["type"] in _HOLDERS for n in draft.nodes.values()):
        from agentflow.spec.rules.bodies import check_bodies

        check_bodies(draft, lambda inner: _examine(inner, priced))


def _later_stages(draft: Any, priced: Priced | None) -> None:
    from agentflow.spec.rules.fitting import check_fitting
    from agentflow.spec.rules.models import check_models
    from agentflow.spec.rules.options import check_options
    from agentflow.spec.rules.references import check_references
    from agentflow.spec.rules.structure import check_structure
    from agentflow.spec.rules.texts import check_texts
    from agentflow.spec.rules.warnings import check_habits

    if draft.has("E026"):
        return
    if draft.sources:
        from agentflow.spec.rules.sources import check_sources

        check_sources(draft)
    check_references(draft)
    check_options(draft)
    check_fitting(draft)
    if not draft.complete or draft.has("E005", "E006", "E009"):
        return
    if isinstance(draft.document.get("start_node"), str):
        check_structure(draft)
    check_texts(draft, graph_known=not draft.has("E012", "E013"))
    if not draft.has("E012", "E013"):
        check_habits(draft)
        check_models(draft, priced)


def _named(document: Json) -> str:
    if document is None:
        return "null"
    names = {bool: "a boolean", str: "text", list: "a list", int: "a number", float: "a number"}
    return names.get(type(document), "something else")
