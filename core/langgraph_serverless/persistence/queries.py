"""Loads the ``.sql`` files beside the repositories.

A file is a list of queries, each with a name line, one or more sentences, and one statement::

    -- name: get_thread
    -- The visible thread with this id.
    SELECT ... WHERE thread_id = %(thread_id)s

A repository names its queries once, at import, so a missing one fails there. Queries are fixed text: everything that
varies is a bound parameter (``filters.py`` is the only place that composes SQL).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import LiteralString, cast

_QUERY = re.compile(r"^-- name: (?P<name>\w+)\n(?P<about>(?:--.*\n)+)(?P<sql>(?:(?!^-- name: ).*\n?)+)", re.MULTILINE)


class Queries:
    """The named queries of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sql: dict[str, LiteralString] = {}
        for match in _QUERY.finditer(path.read_text(encoding="utf-8")):
            if match["name"] in self._sql:
                raise ValueError(f"{path.name} has two queries named {match['name']}")
            # the text comes from a file of this package, which is as literal as a string in the code
            self._sql[match["name"]] = cast(LiteralString, match["sql"].strip().rstrip(";"))

    def __getitem__(self, name: str) -> LiteralString:
        try:
            return self._sql[name]
        except KeyError:
            raise KeyError(f"{self.path.name} has no query named {name}") from None

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._sql)


def one_after_another(*statements: LiteralString) -> LiteralString:
    """Statements that go as one message (``pool.in_one_message``)."""
    return "\n;\n".join(statements)


def load_queries(module_file: str) -> Queries:
    """The queries in the ``.sql`` file beside a module: ``load_queries(__file__)``."""
    return Queries(Path(module_file).with_suffix(".sql"))
