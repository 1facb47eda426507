"""The run as Markdown: what we lose and what was missed first, then every figure, and the conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.suite import goals

Json = Any
SAID = 400
"""Characters of a failure that the report shows."""
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
FIGURES = (
    ("chain10/1", "p50_ms", "chain10: p50, ms"),
    ("chain10/1", "p99_ms", "p99, ms"),
    ("chain10/64", "steps_per_s", "64 in flight: steps/s"),
    ("chain10/64", "cpu_ms_per_step", "CPU ms/step, with the database"),
    ("chain10/64", "database_cpu_ms_per_step", "the database's part"),
    ("chain10/64", "rows_per_commit", "rows/commit"),
    ("fan100/1", "p50_ms", "fan100: p50, ms"),
    ("fan100/4", "steps_per_s", "4 in flight: steps/s"),
    ("uneven", "makespan_ratio", "uneven / critical path"),
    ("llm_fan", "makespan_s", "llm-fan, s"),
    ("llm_fan", "cpu_s", "llm-fan, CPU s"),
    ("payload", "p50_ms", "payload: p50, ms"),
    ("recovery", "to_next_step_s", "kill to next step, s"),
    ("recovery", "finished_steps_repeated", "finished steps repeated"),
    ("memory", "kib_per_execution", "KiB per execution"),
    ("http", "requests_per_s", "http: requests/s"),
    ("http", "p50_ms", "http: p50, ms"),
    ("http/inner", "requests_per_s", "ingress to inner handle: requests/s"),
)
"""Columns of the table of systems."""
LIMITS = ("limits", "asyncio_floor", "bare_serve")
"""What nobody can be ahead of, and is no system to choose instead."""
NOT_COMPARED = ("database_cpu_ms_per_step", "rows_per_commit")


def number(value: float | None) -> str:
    """Three digits that count, and no exponent."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 or value == 0 else f"{value:.1g}"


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join([row(head), row(["---"] * len(head)), *map(row, rows)])


def aims_table(result: Json) -> str:
    """Our figures beside limit, floor and goal."""
    lines = []
    for line in goals.judged(result["figures"], result["full"]):
        aim = line.aim
        lines.append(
            [
                aim.name,
                f"{number(line.value)} {aim.unit}",
                f"{number(line.limit)} ({aim.limit_is})",
                f"{number(line.floor)} ({aim.floor_is})" if aim.floor else "-",
                _verdict(line, line.floor) if aim.floor else "-",
                f"{number(line.goal)} ({aim.goal_is})" if aim.goal else "-",
                _verdict(line, line.goal) if aim.goal else "-",
            ]
        )
    return table(["measured", "value", "limit", "floor", "", "goal", ""], lines)


def _verdict(line: goals.Line, bound: float | None) -> str:
    reached = line.reached(bound)
    if reached is None:
        return "not measured: " + ", ".join(line.missing)
    return "reached" if reached else "**not reached**"


def systems_table(result: Json) -> str:
    """Every contender's figures."""
    figures = result["figures"]
    names = [name for name in result["systems"] if name != "limits"]
    columns = [
        (workload, figure, title)
        for workload, figure, title in FIGURES
        if any(figure in figures.get(workload, {}).get(name, {}) for name in names)
    ]
    rows = []
    for name in sorted(names, key=lambda name: (not name.startswith("agentflow"), name)):
        cells = [name]
        for workload, figure, _ in columns:
            cells.append(_cell(result, name, workload, figure))
        rows.append(cells)
    return table(["system", *(title for _, _, title in columns)], rows)


def _cell(result: Json, name: str, workload: str, figure: str) -> str:
    value = result["figures"].get(workload, {}).get(name, {}).get(figure)
    if value is not None:
        return number(value)
    if trouble := result["trouble"].get(workload, {}).get(name):
        return trouble.split(":")[0]
    return "-"


def lost(result: Json) -> str:
    """Where somebody is ahead of our strict engine: those who keep something, then those who keep nothing."""
    durable, others = [], []
    for workload, figure, title in FIGURES:
        by = result["figures"].get(workload, {})
        ours = by.get(goals.STRICT, {}).get(figure)
        if ours is None or figure in NOT_COMPARED:
            continue
        for name, theirs in by.items():
            if name.startswith("agentflow") or name in LIMITS or figure not in theirs:
                continue
            more = figure.endswith("per_s")
            if (theirs[figure] > ours) if more else (theirs[figure] < ours):
                text = (
                    f"- {workload}, {title}: {name} {number(theirs[figure])}, ours {number(ours)}"
                )
                relaxed = by.get(goals.RELAXED, {}).get(figure)
                text += "" if relaxed is None else f", relaxed {number(relaxed)}"
                told = result["systems"].get(name, {}).get("persisted_before_next_step", "nothing")
                nothing = told.startswith("nothing")
                (others if nothing else durable).append(text + " (it keeps nothing)" * nothing)
    return "\n".join(durable + others) or "- none, in this run"


def trouble(result: Json) -> str:
    found = [
        f"- {workload}, {name}: {' '.join(text.split())[:SAID]}"
        for kind in ("trouble", "unsupported")
        for workload, by in sorted(result[kind].items())
        for name, text in sorted(by.items())
    ]
    found += [
        f"- {workload}, {name}: the median is of {count} rounds of {result['rounds']}"
        for workload, by in sorted(result["counted"].items())
        for name, count in sorted(by.items())
        if count < result["rounds"] and name not in result["trouble"].get(workload, {})
    ]
    return "\n".join(found)


def limits_table(result: Json) -> str:
    rows = [
        [workload, figure, number(value)]
        for workload, by in result["figures"].items()
        for figure, value in by.get("limits", {}).items()
    ]
    return table(["limit", "figure", "value"], rows)


def alone_table(result: Json) -> str:
    """The figures of the pure core and of starting, what misses its target first."""
    found = sorted(result["alone"], key=lambda each: -each["value"] / each["target"])
    rows = [
        [
            each["name"],
            number(each["value"]),
            number(each["target"]),
            "reached" if each["value"] <= each["target"] else "**not reached**",
        ]
        for each in found
    ]
    return table(["measured", "value", "target", ""], rows)


def conditions(result: Json) -> str:
    machine, database, others = result["machine"], result["database"], result["others"]
    lines = [
        f"- Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB; "
        f"{machine['system']}; Python {machine['python']}, asyncpg {machine['asyncpg']}.",
        "- PostgreSQL: " + ", ".join(f"{name} {value}" for name, value in database.items()) + ".",
        f"- {result['rounds']} rounds, interleaved; figures are medians. Others used "
        f"{others['median_cores']:.2f} cores while we measured (median; at most {others['most_cores']:.2f}); "
        f"load average before: {result['load_before'][0]:.2f}.",
    ]
    return "\n".join(lines)


def settings_table(result: Json) -> str:
    rows = [
        [
            name,
            str(facts.get("version", "")),
            f"{facts.get('setting', '')} ({facts.get('loop', 'asyncio')})",
            str(facts.get("persisted_before_next_step", "")),
            str(facts.get("page", "")),
        ]
        for name, facts in sorted(result["systems"].items())
    ]
    return table(["system", "version", "setting", "persisted before the next step", "page"], rows)


def markdown(result: Json) -> str:
    """Everything, as it stands in docs/performance.md between its markers: what we lose first."""
    parts = [
        ("Rows that we lose", lost(result)),
        ("Ours beside limit, floor and goal", aims_table(result)),
        ("Every system", systems_table(result)),
        ("Limits of this machine", limits_table(result)),
        ("Conditions", conditions(result)),
        ("Settings", settings_table(result)),
    ]
    if result["alone"]:
        parts.insert(4, ("The core alone, and starting", alone_table(result)))
    if told := trouble(result):
        parts.append(("What did not count, and why", told))
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts)


def write_into(page: Path, result: Json) -> None:
    """Put the tables between the markers of a page. Raises ValueError when it has none."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has no lines {BEGIN} and {END} to put the figures between")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{head}{BEGIN}\n\n{markdown(result)}\n\n{END}{tail}")
