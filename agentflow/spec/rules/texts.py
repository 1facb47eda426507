"""Stage 4, second part: conditions, expressions and templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentflow.spec.expressions import ExpressionInvalid, compile_expression, is_bare_name
from agentflow.spec.kinds.base import CEL, VALUES, Text
from agentflow.spec.problems import Part, near
from agentflow.spec.reads import NOT_FIELDS, ON_EDGES, TextInvalid, Use, declared_names, uses
from agentflow.spec.rules.draft import Draft

Json = Any


def check_texts(draft: Draft, *, graph_known: bool) -> None:
    """Find E019, E020, E021 and W008. ``graph_known``: the graph is sound enough for E021."""
    written = [name for name in draft.writers if name not in draft.fields]
    declared = declared_names(draft.fields.values(), written)
    for position, options in draft.options.items():
        for text in draft.kinds[position].texts(options):
            place: tuple[Part, ...] = ("nodes", position, "metadata")
            upstream = draft.ancestors[position] if graph_known else None
            _text(draft, text, declared, place, draft.nodes[position]["id"], upstream)
    _conditions(draft, declared, graph_known)
    _matches(draft, declared)
    _output(draft, declared)


def _text(
    draft: Draft,
    text: Text,
    declared: Mapping[str, str],
    place: tuple[Part, ...],
    owner: str | None,
    upstream: int | None,
    edge_index: int | None = None,
) -> None:
    try:
        found = uses(text, declared)
    except TextInvalid as error:
        at = (*place, *error.at)
        _broken(draft, error.cause, error.offset, declared, at, owner, edge_index)
        return
    for use in found:
        _use(draft, use, declared, place, owner, upstream, edge_index)


def _broken(
    draft: Draft,
    error: ExpressionInvalid,
    offset: int,
    declared: Mapping[str, str],
    at: tuple[Part, ...],
    owner: str | None,
    edge_index: int | None = None,
) -> None:
    if error.undeclared is not None:
        name = error.undeclared.split(".")[0]
        draft.add(
            "E020",
            f"The expression names the undeclared field {name[:100]!r} (at character {offset})",
            at,
            node_id=owner,
            edge_index=edge_index,
            hint=near(name, declared) or f"Declare {name[:100]!r} under 'state'",
        )
    else:
        text = f"The expression does not compile: {error.message} (at character {offset})"
        draft.add("E019", text, at, node_id=owner, edge_index=edge_index)


def _use(
    draft: Draft,
    use: Use,
    declared: Mapping[str, str],
    place: tuple[Part, ...],
    owner: str | None,
    upstream: int | None,
    edge_index: int | None,
) -> None:
    at = (*place, *use.at)
    root = use.path[0]
    if root == "outputs" and len(use.path) > 1:
        name = use.path[1]
        target = draft.index.get(name)
        if target is None:
            there, whom = draft.outside.shows(name), f"the map around {owner!r}"
        else:
            there, whom = upstream is None or bool(upstream >> target & 1), repr(owner)
        if there is None:
            draft.add(
                "E020",
                f"'outputs' names the missing node {name[:100]!r} (at character {use.offset})",
                at,
                node_id=owner,
                edge_index=edge_index,
                hint=near(name, draft.index),
            )
        elif not there:
            draft.add(
                "E021",
                f"Node {name!r} is not upstream of {whom}, so its result can never be there "
                f"(at character {use.offset})",
                at,
                node_id=owner,
                edge_index=edge_index,
                hint=f"Add a path of edges from {name!r} to {whom}",
            )
    elif not use.expression and root not in declared and root not in NOT_FIELDS:
        draft.add(
            "W008",
            f"{'.'.join(use.path)[:100]!r} is not a declared field; it must come with "
            "initial_state, else the text stays as it is",
            at,
            node_id=owner,
            hint=near(root, declared) or f"Declare {root[:100]!r} under 'state'",
        )


def _conditions(draft: Draft, declared: Mapping[str, str], graph_known: bool) -> None:
    names = {**declared, **ON_EDGES}
    dispatch: dict[str, str] = {}
    for index, edge in draft.edges.items():
        condition = edge.get("condition")
        if condition is None or condition == "else":
            continue
        at = ("edges", index, "condition")
        owner = edge["from"]
        if is_bare_name(condition) and names.get(condition) != "bool":
            if condition not in names:
                _broken(draft, ExpressionInvalid("", 0, condition), 0, names, at, owner, index)
            elif dispatch.setdefault(owner, condition) != condition:
                draft.add(
                    "E019",
                    f"Node {owner!r} dispatches on {dispatch[owner]!r} and on {condition!r}; a node "
                    "may dispatch on one field only (at character 0)",
                    at,
                    node_id=owner,
                    edge_index=index,
                    hint="Write the other one as an expression, such as field == 'value'",
                )
            continue
        upstream = None
        position = draft.index.get(owner)
        if graph_known and position is not None:
            upstream = draft.ancestors[position] | 1 << position
        if _boolean(draft, condition, names, at, owner, index):
            _text(draft, Text((), CEL, condition), names, at, owner, upstream, index)


def _boolean(
    draft: Draft,
    condition: str,
    names: Mapping[str, str],
    at: tuple[Part, ...],
    owner: str | None,
    edge_index: int | None = None,
) -> bool:
    try:
        compiled = compile_expression(condition, names)
    except ExpressionInvalid as error:
        _broken(draft, error, error.offset, names, at, owner, edge_index)
        return False
    if compiled.returns not in ("bool", "any"):
        draft.add(
            "E019",
            f"The condition gives {compiled.returns}, not true or false (at character 0)",
            at,
            node_id=owner,
            edge_index=edge_index,
        )
        return False
    return True


def _matches(draft: Draft, declared: Mapping[str, str]) -> None:
    for index, queue in draft.queues.items():
        subs = queue.get("sub_queues")
        for position, sub in enumerate(subs if isinstance(subs, list) else ()):
            if isinstance(sub, dict) and isinstance(sub.get("match"), str):
                at = ("queues", index, "sub_queues", position, "match")
                if _boolean(draft, sub["match"], declared, at, queue["id"]):
                    _text(draft, Text((), CEL, sub["match"]), declared, at, queue["id"], None)


def _output(draft: Draft, declared: Mapping[str, str]) -> None:
    output = draft.document.get("output")
    for name, value in output.items() if isinstance(output, dict) else ():
        if isinstance(value, str):
            text = Text((name,), VALUES, value)
            _text(draft, text, declared, ("output",), None, None)
