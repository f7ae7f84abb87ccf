"""Searches: the only place that composes SQL.

Columns and tables are identifiers of our own (enums and constants, never a client's text); everything a client sent is a
bound parameter. A repository describes its search with ``Search`` and gets a statement and its parameters::

    search = Search("lgs.thread", visible=sql.SQL("purge_at IS NULL"))
    search.contains("metadata", {"user": "u1"})
    statement, parameters = search.page(columns, order=..., tie="thread_id", limit=10, offset=0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from langgraph_serverless.persistence.json import jsonb

Statement = tuple[sql.Composed, dict[str, Any]]


class Search:
    """The conditions of one search over one table; all must hold."""

    def __init__(self, table: str, *, visible: sql.Composable | None = None) -> None:
        self._table = sql.Identifier(*table.split("."))
        self._conditions: list[sql.Composable] = [] if visible is None else [visible]
        self.parameters: dict[str, Any] = {}

    def bind(self, value: Any) -> sql.Placeholder:
        """A placeholder for a value."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return sql.Placeholder(name)

    def contains(self, column: str, document: Mapping[str, Any] | None) -> None:
        """The JSON column contains ``document``; an empty one filters nothing."""
        if document:
            self._add("{} @> {}", column, jsonb(document))

    def equals(self, column: str, value: Any) -> None:
        """The column has this value; None filters nothing."""
        if value is not None:
            self._add("{} = {}", column, value)

    def one_of(self, column: str, values: Sequence[Any] | None) -> None:
        """The column has one of these values; None filters nothing, an empty list everything."""
        if values is not None:
            self._add("{} = ANY({})", column, list(values))

    def includes_text(self, column: str, part: str | None) -> None:
        """The column contains this text in any case; wildcards in it stand for themselves."""
        if part:
            escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            self._add("{} ILIKE {}", column, f"%{escaped}%")

    def _add(self, template: str, column: str, value: Any) -> None:
        # a template is one of the four above
        self._conditions.append(sql.SQL(template).format(sql.Identifier(column), self.bind(value)))

    def _where(self) -> sql.Composable:
        if not self._conditions:
            return sql.SQL("")
        return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(self._conditions)

    def page(
        self,
        columns: Sequence[sql.Composable],
        *,
        order: sql.Composable,
        descending: bool,
        tie: str,
        limit: int,
        offset: int,
    ) -> Statement:
        """The statement for one page and the first row of the next one; ``tie`` makes the order total."""
        # the tie goes the other way, as in the indexes: (created_at DESC, id) serves both directions
        direction, opposite = (sql.SQL(word) for word in (("DESC", "ASC") if descending else ("ASC", "DESC")))
        statement = sql.SQL("SELECT {} FROM {}{} ORDER BY {} {}, {} {} LIMIT {} OFFSET {}").format(
            sql.SQL(", ").join(columns),
            self._table,
            self._where(),
            order,
            direction,
            sql.Identifier(tie),
            opposite,
            self.bind(limit + 1),
            self.bind(offset),
        )
        return statement, self.parameters

    def count(self) -> Statement:
        """The statement that counts in the column ``count``."""
        return sql.SQL("SELECT count(*) AS count FROM {}{}").format(self._table, self._where()), self.parameters


def column(name: str, *, alias: str | None = None) -> sql.Composable:
    """A column to select."""
    found = sql.Identifier(name)
    return found if alias is None or alias == name else sql.SQL("{} AS {}").format(found, sql.Identifier(alias))
