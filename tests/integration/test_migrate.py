"""Migrations on a database that others use: index builds outside a transaction, and callers that come at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from langgraph_serverless.persistence import migrate


@pytest.fixture
def empty_database(databases: Any) -> Iterator[str]:
    uri = databases.create(migrated=False)
    yield uri
    databases.drop(uri)


async def test_callers_that_come_at_once_take_turns(empty_database: str) -> None:
    """One that waits for the lock must not be what an index build of the other one waits for."""
    applied = await asyncio.gather(*(migrate.migrate(empty_database) for _ in range(3)))
    names = sorted(path.stem for path in migrate.DIRECTORY.glob("0*.sql"))
    assert sorted(map(len, applied)) == [0, 0, len(names)]
    with psycopg.connect(empty_database) as connection:
        invalid = connection.execute("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid").fetchall()
    assert invalid == []


async def test_an_index_build_that_failed_is_begun_anew(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0002_pre_index.sql").write_text(
        "-- no transaction: an index\n"
        "DROP INDEX CONCURRENTLY IF EXISTS lgs.word_once;\n"
        "CREATE UNIQUE INDEX CONCURRENTLY word_once ON lgs.word (word);\n"
        "-- the end\n"
    )
    monkeypatch.setattr(migrate, "DIRECTORY", tmp_path)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA lgs")
        connection.execute("CREATE TABLE lgs.word (word text)")
        connection.execute("INSERT INTO lgs.word VALUES ('a'), ('a')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            await migrate.migrate(empty_database)
        states = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('lgs.word_once')"
        assert connection.execute(states).fetchall() == [(False,)]
        connection.execute("DELETE FROM lgs.word")
        assert await migrate.migrate(empty_database) == ["0002_pre_index"]
        assert connection.execute(states).fetchall() == [(True,)]
