"""What the scheduler needs: the API's services for runs, the queue's sweeps, and the bell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import psycopg

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.auth_filters import Filter
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.domain.ports import Authorizer, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.priorities import AskHandler
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.services.queue import QueueService
from langgraph_serverless.services.scheduler import SchedulerService, TickReport
from langgraph_serverless.services.system import Numbers
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger

if TYPE_CHECKING:
    from langgraph_serverless.queue.nap import Nap


class SchedulerContainer(ApiContainer):
    """Builds the scheduler; serves no route."""

    resources = frozenset[str]()

    def __init__(
        self, settings: Settings, *, manifest: Manifest | None = None, ask_priority_handler: AskHandler | None = None
    ) -> None:
        """With ``ask_priority_handler`` where the project is in this process, as on a laptop."""
        super().__init__(settings, manifest=manifest)
        self._ask_here = ask_priority_handler

    @cached_property
    def database(self) -> Database:
        # it does for all tenants what is due
        return super().database.as_system()

    @property
    def ask_priority_handler(self) -> AskHandler | None:
        return self._ask_here or super().ask_priority_handler

    @cached_property
    def authorize(self) -> Authorizer:
        """The project is only imported when a cron is due."""
        if self.catalog.manifest.auth is None:
            return allow_all

        async def ask(caller: Principal, resource: str, action: str, value: dict[str, Any]) -> Filter | None:
            from langgraph_serverless.auth.authorization import HandlerAuthorizer

            assert self.auth_handlers is not None
            return await HandlerAuthorizer(self.auth_handlers)(caller, resource, action, value)

        return ask

    @property
    def environ(self) -> Mapping[str, str]:
        """With the project's ``env``, which otherwise only processes with the graphs have."""
        path = self.settings.config_path
        missing = self.webhook_rules.variables - os.environ.keys() - (self.settings.webhook_variables or {}).keys()
        if not missing or path is None:
            return os.environ
        from langgraph_serverless.execution.project import read_project

        return {**read_project(path).env, **os.environ}

    @cached_property
    def scheduler(self) -> SchedulerService:
        queue = QueueService(self.database, self.settings, self.event_log, groups=self.groups)
        interval = self.catalog.manifest.store.ttl.sweep_interval_minutes
        return SchedulerService(
            self.database,
            self.runs,
            queue,
            self.bell,
            self.webhooks,
            priorities=self.priorities,
            item_sweep_interval=interval,
            nap=self._nap,
        )

    @property
    def _nap(self) -> Nap | None:
        longest = self.settings.scheduler_nap
        if not longest or self.redis is None:
            return None
        from langgraph_serverless.queue.nap import Nap

        return Nap(self.redis, self.settings.redis_key_prefix, longest=longest)


async def tick(settings: Settings) -> TickReport:
    """One tick with a container of its own, which is closed afterwards: a minute later nothing of it would be fresh."""
    return (await tick_and_measure(settings))[0]


async def tick_and_measure(settings: Settings) -> tuple[TickReport, Numbers | None]:
    """The same, and what the deployment looks like afterwards; None if that could not be found out."""
    container = SchedulerContainer(settings)
    try:
        report = await container.scheduler.tick()
        if report.napped:
            return report, None
        try:
            return report, await container.system.numbers()
        except UnavailableError as error:
            logger.warning("no numbers: %s", error, extra={"action": "measure_failed"})
            return report, None
        except psycopg.errors.UndefinedTable as error:
            # a first deployment is ticked before it has been migrated, if it takes longer than a minute
            logger.warning("no numbers before the migration: %s", error, extra={"action": "measure_failed"})
            return report, None
    finally:
        await container.aclose()
