"""Assistants in Postgres: what concurrent requests may not break."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import psycopg
import pytest

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.assistants import mirror_context
from langgraph_serverless.domain.ids import default_assistant_id
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.errors import ConflictError
from langgraph_serverless.persistence.assistants import AssistantRepository
from langgraph_serverless.settings import Settings


@pytest.fixture
async def container(settings: Settings, clean_database: None) -> AsyncIterator[ApiContainer]:
    graphs = {
        name: GraphManifest(
            graph_id=name, description=name.upper(), is_factory=False, schemas={}, drawings={}, subgraphs={}
        )
        for name in ("chat", "other")
    }
    container = ApiContainer(settings, manifest=Manifest.of(graphs))
    yield container
    await container.aclose()


async def test_a_repository_commits_nothing(container: ApiContainer) -> None:
    repository = AssistantRepository()
    assistant_id = uuid.uuid4()
    config, context = mirror_context({}, {"a": 1})
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with container.database.transaction() as connection:
            made = await repository.insert(
                connection,
                assistant_id,
                tenant="",
                graph_id="chat",
                name="n",
                description=None,
                config=config,
                context=context,
                metadata={},
            )
            assert made == await repository.get(connection, assistant_id)
            raise ZeroDivisionError
    async with container.database.connection() as connection:
        assert await repository.get(connection, assistant_id) is None
        assert await repository.list_versions(connection, assistant_id, metadata={}, limit=10, offset=0) == []


async def test_concurrent_patches_get_versions_of_their_own(container: ApiContainer) -> None:
    made = await container.assistants.create(ANONYMOUS, graph_id="chat")
    patches = [container.assistants.update(ANONYMOUS, made.assistant_id, {"metadata": {str(n): n}}) for n in range(8)]
    versions = sorted(patched.version for patched in await asyncio.gather(*patches))
    assert versions == list(range(2, 10))
    current = await container.assistants.get(ANONYMOUS, made.assistant_id)
    assert current.version == 9
    # each merged into what the one before had left
    assert current.metadata == {str(n): n for n in range(8)}


async def test_concurrent_creations_make_one(container: ApiContainer) -> None:
    assistant_id = uuid.uuid4()
    kept = await asyncio.gather(
        *(
            container.assistants.create(
                ANONYMOUS, graph_id="chat", assistant_id=assistant_id, name=str(n), return_existing=True
            )
            for n in range(8)
        )
    )
    assert len({made.name for made in kept}) == 1
    tried = await asyncio.gather(
        *(container.assistants.create(ANONYMOUS, graph_id="chat", assistant_id=uuid.UUID(int=7)) for _ in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, ConflictError) for result in tried) == 7


async def test_defaults_may_be_made_by_several_processes_at_once(container: ApiContainer) -> None:
    await asyncio.gather(*(container.assistants.ensure_defaults() for _ in range(6)))
    page = await container.assistants.search(ANONYMOUS, metadata={}, graph_id=None, name=None)
    assert {item["assistant_id"] for item in page.items} == {default_assistant_id(name) for name in ("chat", "other")}
    assert {item["description"] for item in page.items} == {"CHAT", "OTHER"}


async def test_deleting_removes_versions_and_crons_but_not_other_assistants_crons(
    container: ApiContainer, database_uri: str
) -> None:
    gone = await container.assistants.create(ANONYMOUS, graph_id="chat")
    stays = await container.assistants.create(ANONYMOUS, graph_id="chat")
    async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as connection:
        for assistant in (gone, stays):
            await connection.execute(
                "INSERT INTO lgs.cron (cron_id, assistant_id, schedule, payload) VALUES (%s, %s, '* * * * *', '{}')",
                (uuid.uuid4(), assistant.assistant_id),
            )
        await container.assistants.delete(ANONYMOUS, gone.assistant_id)
        for table in ("cron", "assistant_version", "assistant"):
            rows = await (await connection.execute(f"SELECT assistant_id FROM lgs.{table}")).fetchall()
            assert rows == [(stays.assistant_id,)], table
        await connection.execute("DELETE FROM lgs.cron")
