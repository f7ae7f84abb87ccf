"""Searches: the only place that composes SQL.

Columns and tables are identifiers of our own (enums and constants, never a client's text); everything a client sent is a
bound parameter. A repository describes its search with ``Search`` and gets its rows::

    search = Search("lgs.thread", key="thread_id", visible=sql.SQL("purge_at IS NULL"))
    search.contains("metadata", {"user": "u1"})
    rows = await fetch(connection, search.page(columns, order=[column("created_at")], limit=10, offset=0, ...))

A page is read in two steps of one statement: the keys of its rows, out of an index as far as possible, and then these rows.
So what a client skips with ``offset`` costs index entries, not rows, and nothing wide is sorted. Statements are planned with
their values, never prepared: whether a filter matches one row or half the table decides which index is right. Their texts are
kept, as putting one together takes a tenth of a search; those with an authorisation handler's filter are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from psycopg import sql
from psycopg.rows import DictRow

from langgraph_serverless.domain.auth_filters import AllOf, Contains, Equal, Filter
from langgraph_serverless.persistence.json import jsonb
from langgraph_serverless.persistence.pool import Connection

Statement = tuple[sql.Composed, dict[str, Any]]

#: Texts of statements by what makes them differ; clients choose fields and filters, so not without end.
_TEXTS: dict[tuple[Any, ...], sql.Composed] = {}
_MOST_TEXTS = 500
#: Parts of statements that exist as long as the process, by their ``id``, which is nobody else's therefore.
_LASTING: dict[int, sql.Composable] = {}


def lasting(part: sql.Composable) -> sql.Composable:
    """A constant of a module, of which statements with a text that is kept may be made."""
    return _LASTING.setdefault(id(part), part)


class Search:
    """The conditions of one search over one table; all must hold. ``key`` is the table's key, which breaks ties."""

    def __init__(self, table: str, *, key: str, visible: sql.Composable | None = None) -> None:
        self._table = sql.Identifier(*table.split("."))
        self._key = sql.Identifier(key)
        self._conditions: list[sql.Composable] = [] if visible is None else [visible]
        self.parameters: dict[str, Any] = {}
        #: What tells the text of this search from others; None if there is no saying.
        self._form: list[Any] | None = [table, key]
        self._formed("", visible)

    def bind(self, value: Any) -> sql.Placeholder:
        """A placeholder for a value."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return sql.Placeholder(name)

    def contains(self, column: str, document: Mapping[str, Any] | None) -> None:
        """The JSON column contains ``document``; an empty one filters nothing."""
        if document:
            self._add("{} @> {}", column, jsonb(document))

    def equals(self, column: str | sql.Composable, value: Any) -> None:
        """The column, or what is computed from columns, has this value; None filters nothing."""
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

    def allowed(self, column: str, allowed: Filter | None) -> None:
        """Only rows whose metadata, in this column, an authorisation handler's filter lets through; None lets all."""
        if allowed is not None:
            self._form = None
            self._conditions.append(visible_rows(column, allowed, self.bind))

    def of_allowed_threads(self, allowed: Filter | None) -> None:
        """Only rows without a thread, or of one whose metadata the filter lets through; None lets all."""
        if allowed is not None:
            self._form = None
            visible = visible_rows("metadata", allowed, self.bind)
            self._conditions.append(
                sql.SQL("(thread_id IS NULL OR thread_id IN (SELECT thread_id FROM lgs.thread WHERE {}))").format(
                    visible
                )
            )

    def _add(self, template: str, column: str | sql.Composable, value: Any) -> None:
        # a template is one of the four above
        left = sql.Identifier(column) if isinstance(column, str) else column
        self._formed(template, column)
        self._conditions.append(sql.SQL(template).format(left, self.bind(value)))

    def _formed(self, template: str, part: str | sql.Composable | None) -> None:
        if self._form is not None:
            known = part if isinstance(part, str) or part is None else _form((part,))
            self._form = [*self._form, template, known] if part is None or known is not None else None

    def _where(self) -> sql.Composable:
        if not self._conditions:
            return sql.SQL("")
        return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(self._conditions)

    def page(
        self,
        columns: Sequence[sql.Composable],
        *,
        order: Sequence[sql.Composable],
        descending: bool,
        limit: int,
        offset: int,
        newest_key_first: bool = False,
    ) -> Statement:
        """The statement for one page and the first row of the next one.

        Args:
            order: what to sort by, all in one direction; then comes the key, which makes the order total. Empty: by the key.
            newest_key_first: the key goes the same way, for keys that grow with time; else the other way, as in the
                indexes, which serve both directions: (created_at DESC, id).
        """
        parts, key = _form((*columns, *order)), None
        if self._form is not None and parts is not None:
            key = (*self._form, len(columns), parts, descending, newest_key_first)
        if key is not None and (text := _TEXTS.get(key)) is not None:
            self.bind(limit + 1)
            self.bind(offset)
            return text, self.parameters
        direction, opposite = (sql.SQL(word) for word in (("DESC", "ASC") if descending else ("ASC", "DESC")))
        ties = direction if newest_key_first or not order else opposite
        names = [sql.Identifier(f"sort_{number}") for number in range(len(order))]

        def sorted_by(keys: Sequence[sql.Composable]) -> sql.Composable:
            terms = [*(sql.SQL("{} {}").format(key, direction) for key in keys)]
            return sql.SQL(", ").join([*terms, sql.SQL("{} {}").format(self._key, ties)])

        aliased = [sql.SQL("{} AS {}").format(key, name) for key, name in zip(order, names, strict=True)]
        statement = sql.SQL(
            "SELECT {columns} FROM (SELECT {keys} FROM {table}{where} ORDER BY {order} LIMIT {limit} OFFSET {offset})"
            " AS page JOIN {table} USING ({key}) ORDER BY {order_again}"
        ).format(
            columns=sql.SQL(", ").join(columns),
            keys=sql.SQL(", ").join([self._key, *aliased]),
            table=self._table,
            where=self._where(),
            order=sorted_by(order),
            limit=self.bind(limit + 1),
            offset=self.bind(offset),
            key=self._key,
            order_again=sorted_by(names),
        )
        if key is not None:
            if len(_TEXTS) >= _MOST_TEXTS:
                _TEXTS.clear()
            _TEXTS[key] = sql.Composed([sql.SQL(statement.as_string())])
        return statement, self.parameters

    def count(self) -> Statement:
        """The statement that counts in the column ``count``."""
        return sql.SQL("SELECT count(*) AS count FROM {}{}").format(self._table, self._where()), self.parameters


async def fetch(connection: Connection, statement: Statement) -> list[DictRow]:
    """The rows of a composed statement."""
    return await (await connection.execute(*statement, prepare=False)).fetchall()


async def fetch_count(connection: Connection, search: Search) -> int:
    """How many rows match."""
    (row,) = await fetch(connection, search.count())
    count: int = row["count"]
    return count


def _form(parts: Sequence[sql.Composable]) -> tuple[int, ...] | None:
    """What tells these parts from others; None if one of them is no constant."""
    numbers = tuple(map(id, parts))
    return numbers if all(number in _LASTING for number in numbers) else None


@cache
def column(name: str, *, alias: str | None = None) -> sql.Composable:
    """A column to select."""
    found = sql.Identifier(name)
    return lasting(
        found if alias is None or alias == name else sql.SQL("{} AS {}").format(found, sql.Identifier(alias))
    )


def visible_rows(metadata: str, allowed: Filter, bind: Callable[[Any], sql.Placeholder]) -> sql.Composable:
    """Which rows the filter of an authorisation handler lets through, as ``Filter.matches`` says of one."""
    column_name = sql.Identifier(metadata)
    if isinstance(allowed, Equal):
        if isinstance(allowed.value, dict | list):
            return sql.SQL("{} -> {}::text = {}").format(column_name, bind(allowed.key), bind(jsonb(allowed.value)))
        # of scalars containment is equality, and the index knows it
        return sql.SQL("{} @> {}").format(column_name, bind(jsonb({allowed.key: allowed.value})))
    if isinstance(allowed, Contains):
        return sql.SQL("{} @> {}").format(column_name, bind(jsonb({allowed.key: list(allowed.values)})))
    if not allowed.parts:
        return sql.SQL("TRUE" if isinstance(allowed, AllOf) else "FALSE")
    word = sql.SQL(" AND " if isinstance(allowed, AllOf) else " OR ")
    return sql.SQL("({})").format(word.join(visible_rows(metadata, part, bind) for part in allowed.parts))
