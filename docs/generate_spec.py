"""Writes docs/spec.md, the reference of the workflow language, from docs/spec/*.md and the models.

    .venv/bin/python docs/generate_spec.py            rewrites docs/spec.md
    .venv/bin/python docs/generate_spec.py --check    exit code 1 when it is out of date

In the sections, ``<!-- table: NodeSpec -->`` and its like (see ``TABLES``) stand for what the models
know. A comment before a block says what the block shows, and its line of results is made here:

    <!-- valid -->                 a workflow without errors
    <!-- problem E006 -->          a document with this problem only
    <!-- executes {...} -->        a workflow that ends as the JSON says: ``input`` (the initial state),
                                   then ``status``, ``error``, ``output`` and ``state`` (path: value)
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from agentflow.sources.prices import price_known
from agentflow.spec import models
from agentflow.spec.check import Checked, check_text
from agentflow.spec.kinds import sources
from agentflow.spec.kinds.catalogue import NODE_TYPES, node_kind
from agentflow.spec.normal import LAYOUT, SPELLINGS, VALUES
from agentflow.spec.problems import MEANING, TYPE_OF
from agentflow.spec.schema import NODE_SUMMARY, SOURCE_SUMMARY
from agentflow.spec.state import BUILTIN

Json = Any
HERE = Path(__file__).resolve().parent
PAGE = HERE / "spec.md"
HEAD = "<!-- Made by docs/generate_spec.py from docs/spec/*.md and the models. Edit those. -->\n"
_EXAMPLE = re.compile(
    r"^<!-- (?P<kind>valid|problem|executes)(?: (?P<note>[^\n]*?))? -->\n"
    r"```(?P<language>json|text)\n(?P<text>.*?)\n```$",
    re.MULTILINE | re.DOTALL,
)
_PLACE = re.compile(r"^<!-- (?P<table>[a-z ]+?)(?:: (?P<name>[\w-]+))? -->$", re.MULTILINE)


class Example(NamedTuple):
    """A block and what it shows. ``note``: the code of a problem, or how the execution ends."""

    line: int
    kind: str
    note: str
    text: str


def examples(page: str) -> Iterator[Example]:
    """The examples of a page, in its order."""
    for found in _EXAMPLE.finditer(page):
        line = page.count("\n", 0, found.start()) + 1
        yield Example(line, found["kind"], found["note"] or "", found["text"])


def checked(example: Example) -> Checked:
    """The outcome of checking an example; credentials and prices are judged where it is about them."""
    present = () if example.note == "W009" else None
    priced = price_known if example.note == "W010" else None
    return check_text(example.text, present_env=present, priced=priced)


def build() -> str:
    """The whole page."""
    sections = [path.read_text("utf-8").strip() for path in sorted((HERE / "spec").glob("*.md"))]
    intro, *rest = sections
    contents = "\n".join(f"- [{title}](#{_anchor(title)})" for title in _titles(rest))
    page = "\n\n".join([HEAD + intro, contents, *rest]) + "\n"
    page = _EXAMPLE.sub(_shown, page)
    return _PLACE.sub(_table_for, page)


def _table_for(found: re.Match[str]) -> str:
    if found["table"] == "valid":
        return found[0]
    return TABLES[found["table"]](found["name"])


def _titles(sections: Iterable[str]) -> list[str]:
    return [title for section in sections for title in re.findall(r"^## (.+)$", section, re.M)]


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def _shown(found: re.Match[str]) -> str:
    example = Example(0, found["kind"], found["note"] or "", found["text"])
    made = {"valid": _of_valid, "problem": _of_problem, "executes": _of_execution}[example.kind]
    line = made(example)
    return f"{found[0]}\n\n{line}" if line else found[0]


def _of_valid(example: Example) -> str:
    return ""


def _of_problem(example: Example) -> str:
    outcome = checked(example)
    told = []
    for found in outcome.errors or outcome.warnings:
        place = f" at `{found.path}`" if found.path else ""
        hint = f" *{_escaped(found.hint)}.*" if found.hint else ""
        hint = hint.replace("?.*", "?*")
        told.append(f"> **{found.code}**{place}: {_escaped(found.message)}.{hint}")
    return "\n>\n".join(told)


def _of_execution(example: Example) -> str:
    wanted = json.loads(example.note)
    given = wanted.get("input")
    start = f"Started with `{json.dumps(given, ensure_ascii=False)}`, it" if given else "It"
    if wanted.get("status", "completed") != "completed":
        parts = [f"ends as `{wanted['status']}`"]
        if "error" in wanted:
            parts[0] += f" with `{wanted['error']}`"
    else:
        parts = ["completes"]
    values = [("output", wanted["output"])] if "output" in wanted else []
    values += wanted.get("state", {}).items()
    told = [f"`{path}` = `{json.dumps(value, ensure_ascii=False)}`" for path, value in values]
    return f"> {start} {parts[0]}{': ' if told else ''}{', '.join(told)}."


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_").replace("[", "\\[")


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    listed = list(columns)
    lines = [f"| {' | '.join(listed)} |", f"|{'---|' * len(listed)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def fields_table(model: type[BaseModel], leave_out: Iterable[str] = ()) -> str:
    """The fields of a model: name, type, default, meaning."""
    schema = model.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    rows = []
    for name, part in schema["properties"].items():
        if name in leave_out:
            continue
        default = "required" if name in required else _default(part.get("default"))
        meaning = part.get("description", "").replace("|", "\\|").replace("<", "&lt;")
        rows.append((f"`{name}`", _type(part), default, meaning))
    return _table(("Field", "Type", "Default", "Meaning"), rows)


def _default(value: Json) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, dict) and value:
        return "see there"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _type(part: dict[str, Json]) -> str:
    if "$ref" in part:
        return str(part["$ref"]).rpartition("/")[2].removesuffix("Spec")
    if "anyOf" in part:
        found = [_type(each) for each in part["anyOf"] if each != {"type": "null"}]
        return " or ".join(dict.fromkeys(found))
    if "enum" in part or "const" in part:
        values = part.get("enum", [part.get("const")])
        return " \\| ".join(f"`{value}`" for value in values)
    kind = part.get("type")
    if kind == "array":
        items = part.get("items") or {}
        return f"list of {_type(items)}" if items else "list"
    if kind == "object":
        inner = part.get("additionalProperties")
        if isinstance(inner, dict):
            return f"map to {_type(inner)}"
        if len(part.get("required", ())) == 1:
            name = part["required"][0]
            return f"`{{{name}: {_type(part['properties'][name])}}}`"
        return "object"
    names = {"integer": "whole number", "number": "number", "boolean": "bool", "string": "text"}
    return names.get(str(kind), "any") + _range(part)


def _range(part: dict[str, Json]) -> str:
    low, high = part.get("minimum"), part.get("maximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    bounds = (("exclusiveMinimum", ">"), ("minimum", "≥"), ("maximum", "≤"))
    return "".join(f" {sign} {part[key]:g}" for key, sign in bounds if key in part)


def _model_table(name: str) -> str:
    return fields_table(getattr(models, name, None) or getattr(sources, name))


def _options_table(node_type: str) -> str:
    kind = node_kind(node_type)
    if kind is None or kind.options is None:
        return "Its options are not checked by this version."
    parts = [fields_table(kind.options)]
    schema = kind.options.model_json_schema(by_alias=True)
    for name, inner in schema.get("$defs", {}).items():
        if "properties" in inner and name not in ("Bandwidth", "NodeSpec", "EdgeSpec"):
            model = _inner_model(kind.options, name)
            if model is not None:
                parts.append(f"{name}: {_sentence(model)}\n\n{fields_table(model)}")
    return "\n\n".join(parts)


def _inner_model(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    found = getattr(sys.modules[model.__module__], name, None)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _sentence(model: type[BaseModel]) -> str:
    text = (model.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(text.split()).replace("``", "`")


def _node_types(_: str) -> str:
    rows = []
    for name in NODE_TYPES:
        kind = node_kind(name)
        if kind is None:
            continue
        source = "required" if kind.needs_source({}) else ""
        writes = f"`{kind.field}`" if kind.field else ""
        attempts = str(kind.attempts)
        where = {"inline": "coordinator"}.get(kind.placement, f"{kind.placement} workers")
        rows.append(
            (f"`{name}`", NODE_SUMMARY[name], source, f"`{kind.effects}`", attempts, writes, where)
        )
    columns = ("Type", "It", "Source", "Effects", "Attempts", "Writes", "Runs in")
    return _table(columns, rows)


def _source_kinds(_: str) -> str:
    rows = [
        (f"`{kind}`", SOURCE_SUMMARY[kind], " ".join(f"`{name}`" for name in names))
        for kind, names in sources.PROVIDERS.items()
    ]
    return _table(("Kind", "It is", "Providers"), rows)


def _required(_: str) -> str:
    rows = []
    for (kind, provider), keys in sources.REQUIRED.items():
        if kind == "db" and not provider:
            continue
        named = ", ".join(" or ".join(_spelled(k) for k in key.split("|")) for key in keys)
        rows.append((f"`{kind}`", f"`{provider}`" if provider else "", named))
    return _table(("Kind", "Provider", "Required"), rows)


def _spelled(key: str) -> str:
    return f"`{key}_env`" if key in sources.CREDENTIALS else f"`{key}`"


def _config_table(kind: str) -> str:
    table = fields_table(sources.CONFIGS[kind], leave_out=sources.SourceConfig.model_fields)
    named = [f"| `{name}_env`, `{name}_ref` | text | `null` | Name of what holds: {what}. |"
             for name, what in sources.NAMED[kind].items()]  # fmt: skip
    return "\n".join([table, *named])


def _state_fields(_: str) -> str:
    rows = [
        (
            f"`{field.name}`",
            field.type,
            _default(field.default),
            f"`{field.merge}`",
            "the engine" if field.engine else "",
        )
        for field in BUILTIN.values()
    ]
    return _table(("Field", "Type", "Default", "Merge rule", "Written by"), rows)


_WHERE = {
    "options": "options of a node",
    "edge": "an edge",
    "queue": "a queue",
    "bandwidth": "`bandwidth` of a queue, `limits` of a source",
    "config": "`config` of a source",
}


def _spellings(_: str) -> str:
    rows = [
        (_WHERE.get(where, where), f"`{name}`", f"`{other}`")
        for where, pairs in SPELLINGS.items()
        for other, name in pairs
    ]
    rows += [(where, f"`{name}`", f"`{other}`") for where, (other, name) in VALUES.items()]
    rows += [
        ("options of a node", "a list in `source`", "`fallbacks` beside a single `source`"),
        ("a node", "options in `metadata`", "the same options in `metadata.config`"),
        ("an edge", '`"condition": "else"`', '`"default": true`'),
    ]
    return _table(("Where", "Canonical", "Also accepted"), rows)


def _layout(_: str) -> str:
    return ", ".join(f"`{key}`" for key in sorted(LAYOUT)) + "."


def _codes(_: str) -> str:
    rows = [(f"[{code}](#{code.lower()})", TYPE_OF[code], MEANING[code]) for code in MEANING]
    return _table(("Code", "Type", "Meaning"), rows)


def _code(code: str) -> str:
    return f"### {code}\n\n{MEANING[code]}"


TABLES: dict[str, Callable[[str], str]] = {
    "table": _model_table,
    "options": _options_table,
    "config": _config_table,
    "node types": _node_types,
    "source kinds": _source_kinds,
    "required": _required,
    "state fields": _state_fields,
    "spellings": _spellings,
    "layout": _layout,
    "codes": _codes,
    "code": _code,
}
"""What ``<!-- name -->`` or ``<!-- name: argument -->`` on a line of its own stands for."""


def main(words: list[str]) -> int:
    """Rewrites the page, or with ``--check`` says whether it is up to date."""
    page = build()
    if words == ["--check"]:
        if PAGE.exists() and PAGE.read_text("utf-8") == page:
            return 0
        print(f"{PAGE} is out of date: python docs/generate_spec.py", file=sys.stderr)
        return 1
    PAGE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
