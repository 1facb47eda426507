"""Options of ``db`` nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from agentflow.spec.kinds.base import (
    TEMPLATE,
    VALUES,
    Complaint,
    Json,
    NodeKind,
    Options,
    OptionsModel,
    Text,
)
from agentflow.spec.kinds.values import Seconds, Word
from agentflow.spec.sql import DIALECTS, Statement
from agentflow.spec.sqlrules import READING, refusal

MOST_ROWS, MOST_FILE_ROWS, FEW_ROWS = 10_000, 100_000_000, 100
FILES = ("jsonl", "parquet")


class DbOptions(OptionsModel):
    """Executes one SQL statement."""

    source: Word | None = Field(None, description="Required: id of a source of kind db.")
    query: Annotated[str, Field(min_length=1, max_length=100_000)] = Field(
        description="One SQL statement; query_template is the same. :name (from params) and {path} "
        "(from the state) become bound parameters, so neither may stand inside quotes.",
        examples=["SELECT id, title FROM tickets WHERE author = :author AND open"],
    )
    params: dict[Word, Json] = Field(
        {}, description="Parameters: name to value or ${expression}.", examples=[{"author": "${user_input}"}]
    )  # fmt: skip
    mode: Literal["read", "write"] = Field(
        "read", description="write needs allow_write on the source and permission source:write."
    )
    limit: Annotated[int, Field(ge=1, le=MOST_FILE_ROWS)] | None = Field(
        None,
        description=f"Most rows of the result, whatever the statement says: 1 to {MOST_ROWS} (null: 100); "
        "for jsonl and parquet any number (null: all of them). The source may allow fewer.",
    )
    offset: Annotated[int, Field(ge=0)] = Field(0, description="Rows left out at the beginning.")
    cursor: Word | None = Field(
        None,
        description="Where the page before ended, as a value or ${expression}: the statement's "
        "parameter :cursor. Not with offset.",
    )
    timeout_s: Seconds | None = Field(
        None,
        description="Limit of the statement in seconds, kept by the server too. Null: the source's, "
        "else 30, or 600 for jsonl and parquet.",
    )
    format: Literal["rows", "csv", "jsonl", "parquet"] = Field(
        "rows",
        description="Result as a list of objects, as CSV text, or, however long, as a file in the blob "
        "store (mode read): JSON lines or Parquet; the field then takes {uri, mime_type, size, sha256}.",
    )
    output_key: Word = Field("db_result", description="State field that is written.")


def _complaints(options: Options) -> tuple[Complaint, ...]:
    found: list[Complaint] = []
    if options.get("cursor") is not None and options["offset"]:
        found.append((("cursor",), "cannot be used together with 'offset'"))
    elif options.get("cursor") is not None:
        if "cursor" in options["params"]:
            found.append((("cursor",), "is given twice: take 'cursor' out of 'params'"))
        elif all("cursor" not in Statement(options["query"], name).names for name in DIALECTS):
            found.append((("cursor",), "is not in the statement: say where, as in id > :cursor"))
    if options["format"] in FILES:
        if options["mode"] == "write":
            found.append((("format",), "can be a file only in mode 'read'"))
    elif options["limit"] > MOST_ROWS:
        found.append(
            (
                ("limit",),
                f"is at most {MOST_ROWS} for format {options['format']!r}: read in pages with 'cursor', "
                "or have the rows as a file with format 'jsonl' or 'parquet'",
            )
        )
    sentences = _query_problems(options)
    found += [(("query",), sentence) for sentence in sentences]
    return tuple(found)


def _query_problems(options: Options) -> list[str]:
    """What is wrong with the statement in every dialect that it may be written in."""
    judged = [_problems_in(Statement(options["query"], name), options) for name in DIALECTS]
    return [sentence for sentence in judged[0] if all(sentence in other for other in judged)]


def _problems_in(statement: Statement, options: Options) -> list[str]:
    found = []
    if statement.unclosed:
        found.append(f"has {statement.unclosed} that is never closed")
    quoted = [name for name in statement.quoted_names if name in options["params"]]
    inside = [f":{name}" for name in quoted]
    inside += ["{" + path + "}" for path in statement.quoted_paths]
    if inside:
        found.append(
            f"has the placeholder {inside[0][:100]} inside quotes, where no value can be bound; take "
            "the quotes away, or double the braces of a literal {text}"
        )
    given = {*options["params"], *(["cursor"] if options.get("cursor") is not None else [])}
    unknown = dict.fromkeys(name for name in statement.names if name not in given)
    if unknown:
        named = ", ".join(repr(name[:100]) for name in list(unknown)[:5])
        found.append(f"names parameters that are not in 'params': {named}")
    twice = next((path for path in statement.paths if path in given), None)
    if twice is not None:
        found.append(
            f"names both a parameter and a state field {twice[:100]!r}; give the parameter another name"
        )
    if statement.misplaced:
        found.append(
            f"has the placeholder {statement.misplaced[:100]} in place of a table; only values can "
            "be bound"
        )
    if statement.count > 1:
        found.append("holds more than one statement")
    elif not statement.count:
        found.append("holds no statement")
    elif options["mode"] == "read" and statement.verb not in READING:
        found.append(
            f"does not only read: it begins with {statement.verb[:40] or 'no SQL word'}, not with "
            f"{', '.join(READING[:-1])} or {READING[-1]} (mode 'write' changes data)"
        )
    elif not statement.unclosed and (reason := refusal(statement, options["mode"])) is not None:
        found.append(f"is not executed in mode {options['mode']!r}: {reason}")
    return found


def _texts(options: Options) -> tuple[Text, ...]:
    texts = [
        Text(("query",), TEMPLATE, options["query"]),
        Text(("params",), VALUES, options["params"]),
    ]
    if options.get("cursor") is not None:
        texts.append(Text(("cursor",), VALUES, options["cursor"]))
    return tuple(texts)


def _complete(options: dict[str, Json]) -> dict[str, Json]:
    """Few rows where they are held, all of them where they are a file."""
    if options["limit"] is None:
        options = {**options, "limit": MOST_FILE_ROWS if options["format"] in FILES else FEW_ROWS}
    return options


def _refine(options: Options, source: Options) -> Mapping[str, Json]:
    """A write may be repeated only where a dedupe table tells that it was done."""
    known = options["mode"] == "read" or source.get("dedupe_table")
    return {} if known else {"effects": "once"}


KIND = NodeKind(
    type="db",
    options=DbOptions,
    effects="idempotent",
    attempts=3,
    placement="io",
    field="db_result",
    always_writes=True,
    texts=_texts,
    needs_source=lambda options: not options.get("source"),
    complete=_complete,
    complaints=_complaints,
    refine=_refine,
)
