"""Where placeholders stand in SQL text, and where statements end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.spec.sql import DIALECTS, MYSQL, POSTGRES, Statement
from tests.soak import cases


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("text", "names", "paths", "quoted"),
    [
        ("SELECT :a, :b_2 FROM t", ["a", "b_2"], [], []),
        ("SELECT {user_input}, {outputs.x.text}", [], ["user_input", "outputs.x.text"], []),
        ("SELECT x::int, :a::text", ["a"], [], []),
        ("SELECT a[1:n], b [:m]", ["m"], [], []),
        ("SELECT ':a', ' :b', \"c :d\"", [], [], ["a", "b", "d"]),
        ("SELECT 'it''s :a' || :b", ["b"], [], ["a"]),
        ("SELECT '{user_input}'", [], [], ["user_input"]),
        ("SELECT '{{user_input}}', '{1,2}'", [], [], []),
        ("SELECT 1 -- :a ' {b}\n, :c", ["c"], [], []),
        ("SELECT 1 /* :a ' */ , :c", ["c"], [], []),
        ("SELECT `odd :name`, :c", ["c"], [], ["name"]),
        ("SELECT '12:30', 'a:b', x := 1", [], [], []),
    ],
)
def test_statement_finds_placeholders(
    dialect: str, text: str, names: list[str], paths: list[str], quoted: list[str]
) -> None:
    found = Statement(text, dialect)
    assert (found.names, found.paths) == (names, paths)
    assert found.quoted_names + found.quoted_paths == quoted
    assert found.unclosed == ""


@pytest.mark.parametrize(
    ("dialect", "text", "names", "quoted"),
    [
        (POSTGRES, "SELECT $$ :a $$, $t$ ' :b $t$, :c", ["c"], ["a", "b"]),
        (POSTGRES, r"SELECT 'C:\', :a", ["a"], []),
        (MYSQL, r"SELECT 'it\' :a', :b", ["b"], ["a"]),
        (POSTGRES, r"SELECT E'it\' :a', :b", ["b"], ["a"]),
        (POSTGRES, "SELECT a #> :p", ["p"], []),
        (MYSQL, "SELECT a # :p ' \n, :q", ["q"], []),
        (POSTGRES, "SELECT 1 --:a\n", [], []),
        (MYSQL, "SELECT 1 --:a\n", ["a"], []),
        (POSTGRES, "/* a /* :b */ :c */ SELECT :d", ["d"], []),
        (MYSQL, "/* a /* :b */ SELECT :d", ["d"], []),
    ],
)
def test_statement_knows_the_dialects(
    dialect: str, text: str, names: list[str], quoted: list[str]
) -> None:
    found = Statement(text, dialect)
    assert (found.names, found.quoted_names, found.unclosed) == (names, quoted, "")


@pytest.mark.parametrize(
    ("text", "count", "verb"),
    [
        ("", 0, ""),
        (" ; -- nothing\n ;", 0, ""),
        ("select 1;", 1, "SELECT"),
        ("(select 1) union (select 2)", 1, "SELECT"),
        ("SELECT ';' ; /* ; */", 1, "SELECT"),
        ("SELECT 1; DROP TABLE t", 2, "SELECT"),
        ("/* SELECT */ DELETE FROM t", 1, "DELETE"),
        ("{sql}", 1, ""),
    ],
)
def test_statement_counts_statements(text: str, count: int, verb: str) -> None:
    for dialect in DIALECTS:
        found = Statement(text, dialect)
        assert (found.count, found.verb) == (count, verb)


@pytest.mark.parametrize(
    ("text", "misplaced"),
    [
        ("SELECT * FROM :t", ":t"),
        ("SELECT * FROM a JOIN {b} ON true", "{b}"),
        ("INSERT INTO :t VALUES (1)", ":t"),
        ("UPDATE {t} SET a = 1", "{t}"),
        ("SELECT EXTRACT(year FROM :d)", ""),
        ("SELECT a IS DISTINCT FROM :d", ""),
        ("SELECT * FROM t WHERE a = :a", ""),
    ],
)
def test_statement_finds_placeholders_for_tables(text: str, misplaced: str) -> None:
    assert Statement(text, POSTGRES).misplaced == misplaced


@pytest.mark.parametrize(
    ("text", "what"),
    [("SELECT 'a", "quote"), ('SELECT "a', "quote"), ("SELECT /* a", "comment"), ("SELECT $$a", "$$")],
)  # fmt: skip
def test_statement_finds_what_is_never_closed(text: str, what: str) -> None:
    assert what in Statement(text, POSTGRES).unclosed


@settings(max_examples=cases(200), deadline=None)
@given(st.text(alphabet="SELECT ab:{}'\"`$;/*-#\\\nE1().", max_size=80) | st.text())
def test_statement_reads_any_text(text: str) -> None:
    for dialect in DIALECTS:
        assert Statement(text, dialect).count >= 0
