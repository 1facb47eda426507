"""Plans and problems as text that a person can compare."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from agentflow.plan.plan import END, Loop, Plan, PlanNode
from agentflow.spec.check import Checked


def plan_text(plan: Plan) -> str:
    """Everything a plan says, without what is at its default."""
    lines = [f"plan {plan.name or '-'} {plan.content_hash[:12]}"]
    lines.append("order " + " ".join(plan.nodes[index].id for index in plan.order))
    lines.append(f"start {plan.nodes[plan.start].id}")
    lines.append(f"settings {_compact(msgspec.to_builtins(plan.settings))}")
    for node in plan.nodes:
        lines += _node(plan, node)
    for edge in plan.edges:
        target = "end" if edge.target == END else plan.nodes[edge.target].id
        detail = edge.condition or edge.field or ""
        key = f" key={edge.key}" if edge.key else ""
        what = f"{edge.kind} {detail}".strip()
        level = f" loop={edge.level}" if edge.level >= 0 else ""
        back = " back" if edge.back else ""
        name = plan.nodes[edge.source].id
        lines.append(f"edge {edge.index} {name} -> {target}: {what}{key}{level}{back}")
    lines += [_loop(plan, loop) for loop in plan.loops]
    lines.append(f"past {'fixed' if plan.fixed else 'as recorded'}")
    lines += [f"source {_compact(msgspec.to_builtins(source))}" for source in plan.sources]
    lines.append("fields " + " ".join(f"{f.name}:{f.type}/{f.merge}" for f in plan.fields))
    if plan.output is not None:
        lines.append(f"output {_compact(plan.output)}")
    lines += [f"unsupported {sentence}" for sentence in plan.unsupported]
    return "\n".join(lines) + "\n"


def problems_text(checked: Checked) -> str:
    """One line for each problem, and one for its hint."""
    lines = [f"valid {str(checked.valid).lower()}"]
    for found in (*checked.errors, *checked.warnings):
        where = f"{found.line}:{found.column}"
        lines.append(f"{found.code} {found.field or '-'} ({where}) {found.message}")
        if found.hint:
            lines.append(f"     hint: {found.hint}")
    return "\n".join(lines) + "\n"


def _loop(plan: Plan, loop: Loop) -> str:
    members = " ".join(plan.nodes[index].id for index in loop.members)
    inside = f" inside={loop.parent}" if loop.parent >= 0 else ""
    return (
        f"loop {loop.index} entry={plan.nodes[loop.entry].id} members=[{members}] parts={loop.parts} "
        f"back={_compact(loop.back)} exits={_compact(loop.exits)} bound={loop.bound}{inside}"
    )


def _node(plan: Plan, node: PlanNode) -> list[str]:
    options = {k: v for k, v in node.options.items() if v not in (None, [], False)}
    facts: dict[str, Any] = {
        "placement": node.placement,
        "effects": node.effects,
        "attempts": node.retry.max_attempts,
        "on_error": node.on_error,
        "timeout_s": node.timeout_s,
        "resources": msgspec.to_builtins(node.resources),
        "writes": node.output_key,
        "sources": node.sources,
        "join": node.join if node.join != "all" else None,
        "needed": node.needed if node.join == "n_of" else None,
        "loops": node.loops,
        "branch": tuple(plan.nodes[index].id for index in node.branch),
        "races": tuple(plan.nodes[index].id for index in node.races),
        "cache": msgspec.to_builtins(node.cache),
        "in": node.incoming,
        "out": node.outgoing,
    }
    shown = " ".join(f"{k}={_compact(v)}" for k, v in facts.items() if v not in (None, ()))
    lines = [f"node {node.index} {node.id} {node.type} rank={node.rank} {shown}"]
    lines.append(f"  options {_compact(options)}")
    for read in node.reads:
        writers = " ".join(plan.nodes[index].id for index in read.writers)
        lines.append(f"  reads {read.field}: {writers or '-'}")
    return lines


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
