"""Filters of handlers mean the same in Postgres as of one row in memory: ``Filter.matches`` against ``visible_rows``."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from langgraph_serverless.domain.auth_filters import Filter, parse_filter
from langgraph_serverless.persistence.filters import Search, column

KEYS = st.sampled_from(["owner", "team", "$", "a.b", "é", "", "%"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.0, 1.0, 1.5, -1.0, 1e300]),
    st.sampled_from(["", "a", "A", "1", "true", "null", "%", "é", "'", "\\"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=4,
)
METADATA = st.dictionaries(KEYS, VALUES, max_size=4)
PLAIN = KEYS.filter(lambda key: not key.startswith("$"))
CONTAINS = st.one_of(SCALARS, st.lists(SCALARS, max_size=3)).map(lambda value: {"$contains": value})
EQUALS = VALUES.map(lambda value: {"$eq": value})
LEAVES = st.dictionaries(PLAIN, st.one_of(VALUES, EQUALS, CONTAINS), max_size=2)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda operator, parts, more: {operator: parts, **more},
        st.sampled_from(["$or", "$and"]),
        st.lists(inner, max_size=3),
        LEAVES,
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def connection(database_uri: str) -> Any:
    with psycopg.connect(database_uri, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("CREATE TEMPORARY TABLE judged (number integer PRIMARY KEY, metadata jsonb NOT NULL)")
        yield connection


def in_postgres(connection: Any, allowed: Filter | None, rows: list[dict[str, Any]]) -> list[bool]:
    connection.execute("TRUNCATE judged")
    connection.cursor().executemany(
        "INSERT INTO judged VALUES (%s, %s)", [(number, json.dumps(row)) for number, row in enumerate(rows)]
    )
    search = Search("judged", key="number")
    search.allowed("metadata", allowed)
    page = search.page([column("number")], order=[], descending=False, limit=100, offset=0)
    seen = {row["number"] for row in connection.execute(*page).fetchall()}
    return [number in seen for number in range(len(rows))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=FILTERS, rows=st.lists(METADATA, min_size=1, max_size=6))
@example(raw={"owner": {}}, rows=[{"owner": {}}, {"owner": {"x": 1}}, {}])
@example(raw={"owner": []}, rows=[{"owner": []}, {"owner": [1]}, {"owner": None}, {}])
@example(raw={"owner": 1}, rows=[{"owner": True}, {"owner": 1.0}, {"owner": [1]}, {"owner": "1"}])
@example(raw={"owner": "a"}, rows=[{"owner": ["a"]}, {"owner": {"a": 1}}, {"owner": "a"}])
@example(raw={"team": {"$contains": "a"}}, rows=[{"team": "a"}, {"team": ["a"]}, {"team": {"a": 1}}, {"team": [["a"]]}])
@example(raw={"team": {"$contains": []}}, rows=[{"team": []}, {"team": "a"}, {"team": {}}, {}])
@example(raw={"team": {"$contains": None}}, rows=[{"team": [None]}, {"team": None}, {"team": []}])
@example(raw={"$or": []}, rows=[{}])
@example(raw={"$and": []}, rows=[{}])
@example(raw={"$or": [{}, {"owner": "a"}]}, rows=[{}, {"owner": "b"}])
def test_a_filter_means_the_same_in_postgres(connection: Any, raw: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    allowed = parse_filter(raw)
    expected = [allowed is None or allowed.matches(row) for row in rows]
    assert in_postgres(connection, allowed, rows) == expected
