"""Prepares a database: the schema, then a default assistant for each graph."""

from __future__ import annotations

from dataclasses import dataclass

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.persistence.migrate import migrate
from langgraph_serverless.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateReport:
    """What a migration did."""

    applied: tuple[str, ...]
    #: The graphs that have a default assistant now.
    graphs: tuple[str, ...]


class _Seeding(ApiContainer):
    """What default assistants have is the server's own, so nothing is encrypted and the project is not imported for it."""

    @property
    def cipher(self) -> None:
        return None


async def migrate_and_seed(settings: Settings, *, manifest: Manifest | None = None) -> MigrateReport:
    """Apply missing migrations and insert missing default assistants. Safe to repeat and to run twice at once."""
    container = _Seeding(settings, manifest=manifest)
    try:
        index = container.catalog.manifest.store.index
        applied = await migrate(
            settings.database_uri, dims=index.dims if index else None, tenants=settings.row_level_security
        )
        await container.assistants.ensure_defaults()
        return MigrateReport(applied=tuple(applied), graphs=tuple(container.catalog.graph_ids))
    finally:
        await container.aclose()
