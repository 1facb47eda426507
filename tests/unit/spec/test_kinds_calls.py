"""Options of image, db and http nodes: what is valid, and each mistake at its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agentflow.plan.compile import compile_plan
from agentflow.spec.check import Checked, check
from tests.unit.spec.samples import line

Json = Any


def source(name: str, kind: str, **config: Json) -> dict[str, Json]:
    return {"id": name, "kind": kind, "config": config}


SOURCES: list[dict[str, Json]] = [
    source("art", "image", provider="local", model="painter"),
    source("dalle", "image", provider="openai", model="dall-e-3", api_key_env="OPENAI_API_KEY"),
    *(
        source(name, "image", provider="openai", model=model, api_key_env="OPENAI_API_KEY")
        for name, model in (
            ("d2", "dall-e-2"),
            ("gpt1", "gpt-image-1.5"),
            ("gpt2", "gpt-image-2-2026-04-21"),
            ("flare", "gpt-image-2.5-flare"),
        )
    ),
    source(
        "flash",
        "image",
        provider="gemini",
        model="gemini-3.1-flash-image",
        api_key_env="GEMINI_API_KEY",
    ),
    source("tickets", "db", driver="postgres", dsn_ref="secret://tickets"),
    source("ledger", "db", driver="mysql", dsn_ref="secret://ledger", allow_write=True),
    source("safe", "db", dsn_ref="secret://safe", allow_write=True, dedupe_table="done"),
    source("crm", "api", base_url="https://crm.example.com"),
]
IMAGE: dict[str, Json] = {
    "source": ["art", "dalle"],
    "prompt_template": "A drawing of {user_input}",
    "size": "1024x1024",
    "quality": "hd",
    "style": "natural",
    "n": 1,
    "download": False,
    "output_key": "cover",
}
DB: dict[str, Json] = {
    "source": "tickets",
    "query_template": "WITH t AS (SELECT * FROM tickets WHERE author = :author) "
    "SELECT id, title::text FROM t WHERE title ILIKE {user_input} AND NOT note = '{{raw}}';",
    "params": {"author": "${user_input}", "unused": [1, None]},
    "mode": "read",
    "limit": 10_000,
    "offset": 20,
    "timeout_s": 5,
    "format": "csv",
    "output_key": "found",
}
PAGE = {"query_template": "SELECT id FROM tickets WHERE id > :cursor ORDER BY id"}
HTTP: dict[str, Json] = {
    "source": "crm",
    "method": "PUT",
    "path": "/tickets/{user_input}?full=1",
    "headers": {"X-Trace": "{execution.id}", "Accept-Language": "en"},
    "query": {"q": "${user_input}", "page": 1},
    "body": {"text": "${user_input + '!'}"},
    "content_type": "application/json; charset=utf-8",
    "parse": "json",
    "extract": {"title": "$.title", "all": "$..items[?@.open].id"},
    "response_schema": {"type": "object"},
    "success": ["200-299", 404],
    "paginate": {"mode": "page", "max_pages": 3, "items_path": "$.items"},
    "sign": {"type": "hmac", "secret_ref": "secret://hmac"},
    "timeout_s": 2.5,
    "output_key": "ticket",
}
VALID = {"image": IMAGE, "db": DB, "http": HTTP}


def node(node_type: str, **changes: Json) -> dict[str, Json]:
    """A valid node of this type with options replaced; None takes one away."""
    merged = {**copy.deepcopy(VALID[node_type]), **changes}
    metadata = {key: value for key, value in merged.items() if value is not None}
    return {"id": "n", "type": node_type, "metadata": metadata}


def checked(*nodes: dict[str, Json], **changes: Json) -> Checked:
    inputs = {"id": "in", "type": "input"}
    return check(line(inputs, *nodes, sources=copy.deepcopy(SOURCES), **changes))


def errors(found: Checked) -> list[tuple[str, str]]:
    return [(p.code, p.field.removeprefix("nodes[1].metadata.")) for p in found.errors]


@pytest.mark.parametrize("node_type", VALID)
def test_check_accepts_every_option(node_type: str) -> None:
    found = checked(node(node_type))
    assert errors(found) == []
    plan = compile_plan(found.normalized or {})
    missing = {
        "image": "'art': no model that makes pictures comes along",
        "db": "secret references cannot be resolved yet",
        "http": "'sign' with a stored secret (name a variable) cannot be executed yet",
    }
    assert any(missing[node_type] in sentence for sentence in plan.unsupported)


def test_check_fills_in_the_defaults() -> None:
    nodes = [
        {"id": "i", "type": "image", "metadata": {"source": "art"}},
        {"id": "d", "type": "db", "metadata": {"source": "tickets", "query": "SELECT 1"}},
        {"id": "h", "type": "http", "metadata": {"url": "https://example.com"}},
    ]
    plan = compile_plan(checked(*nodes).normalized or {})
    image, db, http = (plan.node(name).options for name in "idh")
    assert (image["n"], image["download"], image["output_key"]) == (1, True, "image_result")
    assert (db["mode"], db["limit"], db["offset"], db["format"]) == ("read", 100, 0, "rows")
    assert (http["method"], http["success"], http["parse"]) == ("GET", "200-299", "auto")
    assert http["content_type"] == "application/json"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": None}, [("E014", "nodes[1].metadata")]),
        ({"source": "tickets"}, [("E024", "source")]),
        ({"size": "1x1"}, [("E024", "size")]),
        ({"size": "256x256"}, [("E024", "size")]),
        ({"size": "256x256", "source": "art"}, []),
        ({"n": 2}, [("E024", "n")]),
        ({"n": 2, "source": "art"}, []),
        ({"n": 0}, [("E024", "n")]),
        ({"n": 11}, [("E024", "n")]),
        ({"quality": "best"}, [("E024", "quality")]),
        ({"style": "calm"}, [("E024", "style")]),
        ({"size": "2048x"}, [("E024", "size")]),
        ({"size": "512x512", "source": "d2", "quality": None, "style": None}, []),
        ({"source": "d2", "style": None}, [("E024", "quality")]),
        ({"source": "gpt1"}, [("E024", "style")]),
        ({"source": "gpt1", "style": None, "size": "1536x1024", "n": 10}, []),
        ({"source": "gpt1", "style": None, "size": "1792x1024"}, [("E024", "size")]),
        ({"source": "gpt1", "style": None, "quality": "max"}, [("E024", "quality")]),
        ({"source": "gpt2", "style": None, "size": "1792x1024"}, []),
        ({"source": "gpt2", "style": None, "size": "3840x2160"}, []),
        ({"source": "gpt2", "style": None, "size": "512x512"}, [("E024", "size")]),
        ({"source": "gpt2", "style": None, "size": "1000x1000"}, [("E024", "size")]),
        ({"source": "gpt2", "style": None, "size": "3840x1024"}, [("E024", "size")]),
        ({"source": "flare", "style": None, "quality": "max"}, []),
        ({"source": "flash", "style": None}, []),
        ({"source": "flash", "style": None, "n": 2}, [("E024", "n")]),
        ({"source": "flash", "style": None, "size": "512x512"}, [("E024", "size")]),
        ({"download": "yes"}, [("E024", "download")]),
        ({"prompt_template": "{outputs.nope}"}, [("E020", "prompt_template")]),
        ({"output_key": "cost"}, [("E024", "output_key")]),
    ],
)
def test_check_reports_image_options(
    changes: dict[str, Json], expected: list[tuple[str, str]]
) -> None:
    assert errors(checked(node("image", **changes))) == expected


def query(text: str, **changes: Json) -> dict[str, Json]:
    return node("db", query_template=None, query=text, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": None}, [("E014", "nodes[1].metadata")]),
        ({"source": "crm"}, [("E024", "source")]),
        ({"source": ["tickets"]}, [("E024", "source")]),
        ({"query_template": None}, [("E024", "query")]),
        ({"query_template": ""}, [("E024", "query_template")]),
        ({"query_template": "SELECT " + "1" * 100_000}, [("E024", "query_template")]),
        ({"params": []}, [("E024", "params")]),
        ({"params": {"author": "${nope}"}}, [("E020", "params.author")]),
        ({"params": {"author": "${user_input +}"}}, [("E019", "params.author")]),
        ({"mode": "both"}, [("E024", "mode")]),
        ({"limit": 0}, [("E024", "limit")]),
        ({"limit": 10_001}, [("E024", "limit")]),
        ({"limit": 10_001, "format": "rows"}, [("E024", "limit")]),
        ({"limit": 10_001, "format": "jsonl"}, []),
        ({"limit": 100_000_001, "format": "parquet"}, [("E024", "limit")]),
        ({"limit": None, "format": "parquet"}, []),
        ({"format": "excel"}, [("E024", "format")]),
        ({"limit": 1.5}, [("E024", "limit")]),
        ({"offset": -1}, [("E024", "offset")]),
        ({"cursor": "${user_input}"}, [("E024", "cursor")]),
        ({"cursor": "${user_input}", "offset": None}, [("E024", "cursor")]),
        ({"cursor": "${user_input}", "offset": None, **PAGE}, []),
        ({"cursor": "${nope}", "offset": None, **PAGE}, [("E020", "cursor")]),
        ({"cursor": 7, "offset": None, **PAGE, "params": {"cursor": 1}}, [("E024", "cursor")]),
        ({"timeout_s": 0}, [("E024", "timeout_s")]),
        ({"format": "xml"}, [("E024", "format")]),
    ],
)
def test_check_reports_db_options(
    changes: dict[str, Json], expected: list[tuple[str, str]]
) -> None:
    assert errors(checked(node("db", **changes))) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("SELECT ':author'", "inside quotes"),
        ("SELECT '%{user_input}%'", "inside quotes"),
        ('SELECT "{user_input}"', "inside quotes"),
        ("SELECT $$ {user_input} $$, `{user_input}`", "inside quotes"),
        ("SELECT :writer, :author", "'writer'"),
        ("SELECT :author, {author}", "both a parameter and a state field 'author'"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("-- nothing", "no statement"),
        ("DELETE FROM t", "begins with DELETE"),
        ("/* SELECT */ update t set a = 1", "begins with UPDATE"),
        ("{user_input}", "no SQL word"),
        ("SELECT * FROM {user_input}", "in place of a table"),
        ("SELECT 'a", "never closed"),
        ("SELECT /* a", "never closed"),
        ("WITH d AS (DELETE FROM t RETURNING a) SELECT * FROM d", "holds DELETE"),
        ("WITH d AS (SELECT 1) UPDATE t SET a = 1", "holds UPDATE"),
        ("EXPLAIN (ANALYZE) insert into t values (1)", "holds INSERT"),
        ("SELECT a INTO u FROM t", "holds INTO"),
        ("SELECT a FROM t FOR NO KEY UPDATE", "locks rows"),
    ],
)
def test_check_reports_the_query(text: str, what: str) -> None:
    found = checked(query(text))
    assert {code for code, _ in errors(found)} == {"E024"}
    assert any(what in problem.message for problem in found.errors)
    assert all(problem.path == "/nodes/1/metadata/query" for problem in found.errors)


@pytest.mark.parametrize(
    "text",
    ["SELECT REPLACE(a, 'x', 'y'), (update_count), \"INTO\", t.into FROM t",
     "VALUES (1)", "explain SELECT 1", "(SELECT 1)", "SELECT ':unknown', 'a{b'", r"SELECT 'it\'s', 'x'",
     r"SELECT 'C:\', :author", "SELECT '{{user_input}}'", "SELECT data #>> '{a,b}', :author::text",
     "SELECT a FROM t WHERE b = :author -- it's fine"],
)  # fmt: skip
def test_check_accepts_queries(text: str) -> None:
    assert errors(checked(query(text))) == []


@pytest.mark.parametrize(
    ("source", "effects", "attempts", "found"),
    [
        ("tickets", None, None, [("E024", "mode")]),
        ("ledger", "once", 1, []),
        ("safe", "idempotent", 3, []),
    ],
)
def test_check_judges_writes_by_their_source(
    source: str, effects: str | None, attempts: int | None, found: list[tuple[str, str]]
) -> None:
    checked_write = checked(query("INSERT INTO t VALUES (:author)", mode="write", source=source))
    assert errors(checked_write) == found
    if checked_write.normalized is not None:
        plan = compile_plan(checked_write.normalized)
        assert (plan.node("n").effects, plan.node("n").retry.max_attempts) == (effects, attempts)


def test_rows_as_a_file_are_all_rows_and_only_read() -> None:
    found = checked(query("SELECT 1", format="jsonl", limit=None))
    assert found.normalized is not None
    assert compile_plan(found.normalized).node("n").options["limit"] == 100_000_000
    found = checked(query("INSERT INTO t VALUES (1)", format="parquet", mode="write"))
    assert ("E024", "format") in errors(found)


def test_declared_effects_decide_how_often_a_call_is_made() -> None:
    write = query("DELETE FROM t WHERE a = :author", mode="write", source="safe")
    plan = compile_plan(checked({**write, "effects": "once"}).normalized or {})
    assert (plan.node("n").effects, plan.node("n").retry.max_attempts) == ("once", 1)
    post = {**node("http", method="POST"), "effects": "idempotent"}
    plan = compile_plan(checked(post).normalized or {})
    assert (plan.node("n").effects, plan.node("n").retry.max_attempts) == ("idempotent", 4)


def test_check_refuses_durability_none_with_effects_once_by_default() -> None:
    settings = {"durability": "none"}
    expected = [("E003", "settings.durability")]
    post = node("http", method="POST")
    assert errors(checked(post, settings=settings)) == expected
    assert errors(checked({**post, "effects": "idempotent"}, settings=settings)) == []
    write = query("DELETE FROM t WHERE a = :author", mode="write", source="ledger")
    assert errors(checked(write, settings=settings)) == expected
    write["metadata"]["source"] = "safe"
    assert errors(checked(write, settings=settings)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": None}, [("E014", "nodes[1].metadata")]),
        ({"source": None, "path": "https://example.com/{user_input}"}, []),
        ({"source": None, "path": "{user_input}"}, []),
        ({"source": "tickets"}, [("E024", "source")]),
        ({"path": None}, [("E024", "url")]),
        ({"path": None, "url": "/a b"}, [("E024", "url")]),
        ({"path": None, "url": "/a\n"}, [("E024", "url")]),
        ({"path": "ftp://example.com"}, [("E024", "path")]),
        ({"path": "https:///x"}, [("E024", "path")]),
        ({"path": "https://me:hunter2@example.com"}, [("E024", "path")]),
        ({"url": "/other"}, [("E003", "path")]),
        ({"path": "/{outputs.nope.id}"}, [("E020", "path")]),
        ({"method": "get"}, [("E024", "method")]),
        ({"method": "GET"}, [("E024", "body")]),
        ({"headers": {"X A": "1"}}, [("E024", "headers.X A")]),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, [("E024", "headers.X-A")]),
        ({"headers": {"X-A": 1}}, [("E024", "headers.X-A")]),
        ({"headers": {"Authorization": "Bearer hunter2"}}, [("E024", "headers.Authorization")]),
        ({"headers": {"Authorization": "Bearer {user_input}"}}, []),
        ({"headers": {"X-A": "{outputs.nope}"}}, [("E020", "headers.X-A")]),
        ({"query": {"q": "${nope}"}}, [("E020", "query.q")]),
        ({"body": "Hello {outputs.nope}"}, [("E020", "body")]),
        ({"body": "${nope}"}, [("E020", "body")]),
        ({"body": ["${nope}"]}, [("E020", "body[0]")]),
        ({"content_type": "json"}, [("E024", "content_type")]),
        ({"parse": "yaml"}, [("E024", "parse")]),
        ({"extract": {"a": "title"}}, [("E024", "extract.a")]),
        ({"extract": {"a": "$.a["}}, [("E024", "extract.a")]),
        ({"response_schema": {"type": "no"}}, [("E024", "response_schema")]),
        ({"success": 204}, []),
        ({"success": 99}, [("E024", "success")]),
        ({"success": "2xx"}, [("E024", "success")]),
        ({"success": [200, "299-200"]}, [("E024", "success[1]")]),
        ({"success": []}, [("E024", "success")]),
        ({"paginate": {"mode": "all"}}, [("E024", "paginate.mode")]),
        ({"paginate": {"mode": "link", "max_pages": 0}}, [("E024", "paginate.max_pages")]),
        ({"paginate": {"mode": "link", "items_path": "x"}}, [("E024", "paginate.items_path")]),
        ({"sign": {"type": "rsa"}}, [("E024", "sign.type")]),
        ({"sign": {"type": "hmac"}}, [("E024", "sign.secret_env")]),
        ({"sign": {"type": "hmac", "secret_ref": "secret://a", "header": "Host"}},
         [("E024", "sign.header")]),
        ({"sign": {"type": "hmac", "secret_ref": "secret://a", "timestamp_header": "a b"}},
         [("E024", "sign.timestamp_header")]),
        ({"sign": {"type": "aws_sigv4", "access_key_id_ref": "secret://a", "region": "eu-north-1"}},
         [("E024", "sign.secret_access_key_env"), ("E024", "sign.service")]),
        ({"headers": {"Host": "{user_input}"}}, [("E024", "headers.Host")]),
        ({"paginate": {"mode": "cursor", "cursor_path": "next"}},
         [("E024", "paginate.cursor_path")]),
        ({"sign": {"type": "hmac", "secret_env": "DATABASE_URL"}}, [("E016", "sign.secret_env")]),
        ({"sign": {"type": "hmac", "secret_env": "lower"}}, [("E003", "sign.secret_env")]),
        ({"sign": {"type": "hmac", "secret_ref": "hmac"}}, [("E003", "sign.secret_ref")]),
        ({"sign": {"type": "hmac", "secret_ref": "secret://a", "secret": "hunter2"}},
         [("E016", "sign.secret")]),
        ({"timeout_s": -1}, [("E024", "timeout_s")]),
    ],
)  # fmt: skip
def test_check_reports_http_options(
    changes: dict[str, Json], expected: list[tuple[str, str]]
) -> None:
    found = checked(node("http", **changes))
    assert errors(found) == expected
    assert all("hunter2" not in str(problem.to_json()) for problem in found.errors)


@pytest.mark.parametrize(
    ("method", "effects", "attempts"),
    [("GET", "idempotent", 4), ("PUT", "idempotent", 4), ("POST", "once", 1), ("PATCH", "once", 1)],
)
def test_method_decides_the_effects_of_http_nodes(method: str, effects: str, attempts: int) -> None:
    found = checked(node("http", method=method, body=None))
    planned = compile_plan(found.normalized or {}).node("n")
    assert (planned.effects, planned.retry.max_attempts) == (effects, attempts)


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("/tickets", True),
        ("tickets/{user_input}", True),
        ("https://crm.example.com/tickets", True),
        ("HTTPS://CRM.example.com:443/{user_input}", True),
        ("{user_input}", True),
        ("http://crm.example.com/tickets", False),
        ("https://crm.example.com:8443/", False),
        ("https://crm.example.com.evil.example/", False),
        ("https://crm.example.com{user_input}/", False),
        ("https://{user_input}/", False),
        ("https://crm.example.com@evil.example/", False),
        ("https://evil.example\\@crm.example.com/", False),
        ("//evil.example/tickets", False),
        ("/\\evil.example/tickets", False),
    ],
)
def test_check_keeps_credentials_of_a_source_on_its_host(url: str, fits: bool) -> None:
    found = checked(node("http", path=url))
    assert errors(found) == ([] if fits else [("E024", "path")])
    assert all("credentials would be sent there" in problem.message for problem in found.errors)
    assert checked(node("http", path="https://any.example/x", source=None)).valid
