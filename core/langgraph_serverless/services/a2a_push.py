"""Who is notified of a task, and where: push notifications of the Agent-to-Agent protocol.

What is set here is kept with the task. The transaction that ends one of its runs writes the notification into the outbox of the webhooks
(``lgs.a2a_notify``), which sends it as any of them (``webhooks.py``): to public addresses only, signed, tried again. Reading what is
set takes a caller who may read the task's thread, changing it one who may change that.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph_serverless.domain import a2a
from langgraph_serverless.domain.a2a import TaskRef
from langgraph_serverless.domain.a2a_push import MOST_CONFIGS, PushConfig
from langgraph_serverless.domain.ports import WebhookPolicy
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.errors import InvalidInputError, RpcError
from langgraph_serverless.persistence.a2a import A2ARepository
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.services.a2a_tasks import A2ATasks
from langgraph_serverless.services.threads import ThreadService

_NONE = "Push Notification is not supported"


class A2APushService:
    """Use cases of push notifications."""

    def __init__(self, database: Database, tasks: A2ATasks, threads: ThreadService, webhooks: WebhookPolicy) -> None:
        self._database = database
        self._tasks = tasks
        self._threads = threads
        self._webhooks = webhooks
        self._rows = A2ARepository()

    @property
    def sends(self) -> bool:
        """Whether clients can be notified."""
        return self._webhooks.sends

    async def set(self, caller: Principal, assistant_id: str, task_id: object, config: PushConfig) -> TaskRef:
        """Notify a client of a task, in place of a config of the same name."""
        ref = await self._announced(caller, assistant_id, task_id, changing=True)
        await check_push(self._webhooks, config)
        async with self._database.transaction() as connection:
            if not await self._rows.set_push(connection, ref, config):
                raise too_many()
        return ref

    async def list(self, caller: Principal, assistant_id: str, task_id: object) -> tuple[TaskRef, Sequence[PushConfig]]:
        """Where a task is announced."""
        ref = await self._announced(caller, assistant_id, task_id)
        async with self._database.connection() as connection:
            return ref, await self._rows.pushes(connection, ref)

    async def get(
        self, caller: Principal, assistant_id: str, task_id: object, config_id: str | None
    ) -> tuple[TaskRef, PushConfig]:
        """One of them; the first, if none is named.

        Raises:
            RpcError: there is none.
        """
        ref, configs = await self.list(caller, assistant_id, task_id)
        for config in configs:
            if config_id in (None, config.config_id):
                return ref, config
        raise RpcError(a2a.TASK_NOT_FOUND, "Push notification config not found")

    async def delete(self, caller: Principal, assistant_id: str, task_id: object, config_id: str) -> None:
        """Announce a task there no longer; nothing happens if it is not."""
        ref = await self._announced(caller, assistant_id, task_id, changing=True)
        async with self._database.transaction() as connection:
            await self._rows.delete_push(connection, ref, config_id)

    async def _announced(
        self, caller: Principal, assistant_id: str, task_id: object, *, changing: bool = False
    ) -> TaskRef:
        if not self._webhooks.sends:
            raise RpcError(a2a.NO_PUSH, _NONE)
        assistant, _ = await self._tasks.agent(caller, assistant_id)
        found = await self._tasks.find(caller, assistant.assistant_id, task_id)
        if changing:
            # as for any other change of the thread
            await self._threads.update(caller, found.ref.thread_id, metadata={}, ttl=None)
        return found.ref


async def check_push(webhooks: WebhookPolicy, config: PushConfig) -> None:
    """Raises: RpcError: nothing would be sent there."""
    if not webhooks.sends:
        raise RpcError(a2a.NO_PUSH, _NONE)
    try:
        await webhooks.check(config.url)
    except InvalidInputError as error:
        raise RpcError(a2a.INVALID_PARAMS, f"Invalid push notification URL: {error.detail}") from None


def too_many() -> RpcError:
    return RpcError(a2a.INVALID_PARAMS, f"A task has at most {MOST_CONFIGS} push notification configs")
