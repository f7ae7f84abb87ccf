"""What a process needs that serves the API without executing graphs.

Cheap to construct and opens nothing: every part is made at its first use, and adapters connect at their own first use. A
function handler holds one of these for the life of its process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.domain.ports import allow_all
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from langgraph_serverless.auth.authentication import Authenticator
    from langgraph_serverless.auth.handlers import Handlers
    from langgraph_serverless.domain.ports import Authorizer, Embedder, GraphDescriber
    from langgraph_serverless.domain.priorities import AskHandler, GroupLimits
    from langgraph_serverless.domain.webhook_rules import WebhookRules
    from langgraph_serverless.encryption.cipher import ProjectCipher
    from langgraph_serverless.encryption.handlers import Handlers as EncryptionHandlers
    from langgraph_serverless.execution.project import ProjectConfig
    from langgraph_serverless.function_client import FunctionClient
    from langgraph_serverless.queue.bell import RedisBell
    from langgraph_serverless.services.a2a import A2AService
    from langgraph_serverless.services.a2a_push import A2APushService
    from langgraph_serverless.services.a2a_tasks import A2ATasks
    from langgraph_serverless.services.assistants import AssistantService
    from langgraph_serverless.services.crons import CronService
    from langgraph_serverless.services.mcp import McpService
    from langgraph_serverless.services.priorities import PriorityService
    from langgraph_serverless.services.protocol_commands import ProtocolCommandService
    from langgraph_serverless.services.protocol_streams import ProtocolStreamService
    from langgraph_serverless.services.replays import ReplayService
    from langgraph_serverless.services.runs import RunService
    from langgraph_serverless.services.state_queries import StateQueries
    from langgraph_serverless.services.store import StoreService
    from langgraph_serverless.services.streams import StreamService
    from langgraph_serverless.services.system import SystemService
    from langgraph_serverless.services.thread_streams import ThreadStreamService
    from langgraph_serverless.services.threads import SuperstepWriter, ThreadService
    from langgraph_serverless.services.webhooks import WebhookService
    from langgraph_serverless.streaming.hub import EventHub
    from langgraph_serverless.streaming.log import RedisEventLog
    from langgraph_serverless.streaming.sealed import SealedHub, SealedLog
    from langgraph_serverless.streaming.thread_index import ThreadIndex
    from langgraph_serverless.webhooks.addresses import AddressBook


#: Seconds of standing still after which the network may have forgotten a connection (NAT and VPC endpoints do after 350).
_LONG_REST = 120.0


class ApiContainer:
    """Everything but the user's graphs."""

    #: What ``create_app`` serves from this container.
    resources: frozenset[str] = frozenset(
        {"assistants", "threads", "runs", "stream", "crons", "store", "mcp", "a2a", "system"}
    )

    def __init__(self, settings: Settings, *, manifest: Manifest | None = None) -> None:
        self.settings = settings
        self._manifest = manifest
        self._rested_at = 0.0

    @cached_property
    def catalog(self) -> GraphCatalog:
        return GraphCatalog(self._manifest or read_manifest(self.settings))

    @cached_property
    def project(self) -> ProjectConfig:
        """Opened for ``project_code.load_object``, for what the manifest names (``auth``, ``app``); nothing else asks for it.

        Raises:
            ProjectError: with the sentence to show.
        """
        from langgraph_serverless.execution.project_code import open_project

        return open_project(self.settings.config_path)

    @cached_property
    def auth_handlers(self) -> Handlers | None:
        """The project's own authentication and authorisation; None if it has none: then everybody may do everything.

        Raises:
            ProjectError: with the sentence to show.
        """
        settings = self.catalog.manifest.auth
        if settings is None:
            return None
        from langgraph_serverless.auth.handlers import read_handlers
        from langgraph_serverless.execution.project_code import load_object

        project = self.project
        return read_handlers(
            load_object(project, settings.path, key="auth.path"), key=f"{project.config_path}: auth.path"
        )

    @cached_property
    def user_app(self) -> object | None:
        """The project's own application (``http.app``); None if it has none.

        Raises:
            ProjectError: with the sentence to show.
        """
        target = self.catalog.manifest.http.app
        if target is None:
            return None
        from langgraph_serverless.execution.project_code import load_object

        loaded: object = load_object(self.project, target, key="http.app")
        return loaded

    @property
    def mount_prefix(self) -> str:
        """Below which the API is; empty or like ``/api``."""
        return self.settings.mount_prefix or self.catalog.manifest.http.mount_prefix

    @cached_property
    def authenticator(self) -> Authenticator | None:
        """Who is calling; None if nobody is asked.

        Raises:
            ProjectError: with the sentence to show.
        """
        settings, handlers = self.catalog.manifest.auth, self.auth_handlers
        if settings is None or handlers is None:
            if self.settings.tenant_from:
                raise ProjectError(
                    "TENANT_FROM is set, and the project has no 'auth', so nobody says whose data it is."
                )
            return None
        from langgraph_serverless.auth.authentication import Authenticator

        studio = self.settings.studio_auth and not settings.disable_studio_auth
        return Authenticator(
            handlers, cache=settings.cache, studio=studio, tenant_from=self.settings.tenant_from or None
        )

    @cached_property
    def authorize(self) -> Authorizer:
        """What a caller may do; every service asks it."""
        if self.auth_handlers is None:
            return allow_all
        from langgraph_serverless.auth.authorization import HandlerAuthorizer

        return HandlerAuthorizer(self.auth_handlers)

    @cached_property
    def database(self) -> Database:
        return Database(self.settings, lambda: self.cipher)

    @property
    def encryption_path(self) -> str | None:
        """Where the project's encryption is."""
        # an operator's command that looks at no document has no manifest, and needs none; services need one
        known = self._manifest is not None or self.settings.manifest_path is not None
        return self.catalog.manifest.encryption if known else None

    @cached_property
    def encryption_handlers(self) -> EncryptionHandlers | None:
        """The project's own encryption; None if it has none.

        Raises:
            ProjectError: with the sentence to show.
        """
        path = self.encryption_path
        if path is None:
            return None
        from langgraph_serverless.encryption.handlers import Handlers
        from langgraph_serverless.execution.project_code import load_object

        project = self.project
        key = "encryption.path"
        return Handlers(load_object(project, path, key=key), key=f"{project.config_path}: {key}")

    @cached_property
    def cipher(self) -> ProjectCipher | None:
        """What data is encrypted with where it is stored; None if it is not. Checkpoints, which ``LANGGRAPH_AES_KEY`` is for, are read
        by processes with graphs only."""
        if self.encryption_handlers is None:
            return None
        from langgraph_serverless.encryption.cipher import ProjectCipher

        return ProjectCipher(self.encryption_handlers, None)

    @cached_property
    def redis(self) -> Redis | None:
        """None if the deployment has no Redis."""
        if not self.settings.redis_uri:
            return None
        from langgraph_serverless.containers.redis_client import make_client

        return make_client(self.settings.redis_address)

    @cached_property
    def bell(self) -> RedisBell:
        from langgraph_serverless.queue.bell import RedisBell
        from langgraph_serverless.queue.worker_function import WorkerFunction

        settings, function = self.settings, None
        if settings.worker_function_name:
            function = WorkerFunction(
                settings.worker_function_name,
                jobs=settings.n_jobs_per_worker,
                most=settings.worker_invocations,
                limit=settings.worker_concurrency,
                start=settings.worker_start,
                # an operator who puts runs back has no manifest, and needs none
                build=self.catalog.manifest.short_hash if self._manifest or settings.manifest_path else "",
            )
        return RedisBell(self.redis, settings.redis_key_prefix, function)

    @cached_property
    def state_function(self) -> FunctionClient | None:
        """Answers requests that take the user's code; None where there is no such function. See ``http/forwarding.py``."""
        if not self.settings.state_function_name:
            return None
        from langgraph_serverless.function_client import FunctionClient

        return FunctionClient(self.settings.state_function_name)

    @cached_property
    def event_log(self) -> RedisEventLog | SealedLog | None:
        """Where runs write what they emit; None without Redis."""
        if self.redis is None:
            return None
        from langgraph_serverless.streaming.log import RedisEventLog

        log = RedisEventLog(self.redis, self.settings.redis_key_prefix, self.settings)
        if self.cipher is None or self.encryption_handlers is None:
            return log
        from langgraph_serverless.streaming.sealed import SealedLog

        return SealedLog(log, self.cipher)

    @cached_property
    def assistants(self) -> AssistantService:
        from langgraph_serverless.services.assistants import AssistantService

        return AssistantService(self.database, self.catalog, self.bell, self.describe_graph, authorize=self.authorize)

    @property
    def describe_graph(self) -> GraphDescriber | None:
        """Builds graphs of factories to describe them; None here, as it takes the graphs."""
        return None

    @cached_property
    def threads(self) -> ThreadService:
        from langgraph_serverless.services.threads import ThreadService

        return ThreadService(self.database, self.bell, self.catalog.manifest.thread_ttl, authorize=self.authorize)

    @property
    def supersteps(self) -> SuperstepWriter | None:
        """Writes the supersteps of a new thread; None here, as it takes the graphs."""
        return None

    @cached_property
    def runs(self) -> RunService:
        from langgraph_serverless.services.runs import RunService

        return RunService(
            self.database,
            self.catalog,
            self.bell,
            self.settings,
            self.event_log,
            webhooks=self.webhook_addresses,
            priorities=self.priorities,
            authorize=self.authorize,
        )

    @cached_property
    def protocol_commands(self) -> ProtocolCommandService:
        from langgraph_serverless.services.protocol_commands import ProtocolCommandService

        return ProtocolCommandService(
            self.database, self.runs, self.priorities, self.event_hub, authorize=self.authorize
        )

    @property
    def state_queries(self) -> StateQueries | None:
        """Asks the state function, which has the graphs; None where there is no such function."""
        if self.state_function is None:
            return None
        from langgraph_serverless.services.state_queries import QueriesInFunction

        return QueriesInFunction(self.state_function)

    @cached_property
    def replays(self) -> ReplayService:
        """For an operator's command; no route leads here."""
        from langgraph_serverless.services.replays import ReplayService

        return ReplayService(self.database.as_system(), self.bell, self.event_log)

    @cached_property
    def priorities(self) -> PriorityService:
        from langgraph_serverless.services.priorities import PriorityService

        return PriorityService(self.database, self.catalog, self.ask_priority_handler)

    @property
    def ask_priority_handler(self) -> AskHandler | None:
        """Asks the project's handler, which is in the state function; None where there is no such function."""
        if self.state_function is None:
            return None
        from langgraph_serverless.services.priorities import HandlerInFunction

        return HandlerInFunction(self.state_function)

    @property
    def groups(self) -> GroupLimits | None:
        """How the queue is shared between fairness groups; None where there are none and no limit: then it goes by age."""
        limits = self.settings.group_limits
        return limits if limits or self.catalog.manifest.priority else None

    @cached_property
    def webhook_addresses(self) -> AddressBook:
        """Where webhooks may go."""
        from langgraph_serverless.domain.webhooks import AllowedHosts
        from langgraph_serverless.webhooks.addresses import AddressBook

        allowed = AllowedHosts.parse(self.settings.webhook_allowed_hosts)
        return AddressBook(allowed, rules=self.webhook_rules, own_address=self.settings.webhook_base_url)

    @cached_property
    def webhook_rules(self) -> WebhookRules:
        """The project's, or those that the environment has in their place."""
        project, environment = self.catalog.manifest.webhooks, self.settings.webhook_rules
        return project if environment is None else replace(environment, disabled=project.disabled)

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables that the project's headers of webhooks may name."""
        return os.environ

    @cached_property
    def webhooks(self) -> WebhookService:
        """Sends them; for the worker and the scheduler.

        Raises:
            ProjectError: the project's headers cannot be sent, say because a variable is missing.
        """
        from langgraph_serverless.services.webhooks import WebhookService
        from langgraph_serverless.webhooks.sender import WebhookSender

        settings, rules = self.settings, self.webhook_rules
        headers = {} if rules.disabled else rules.headers({**self.environ, **(settings.webhook_variables or {})})
        sender = WebhookSender(self.webhook_addresses, headers=headers, secrets=settings.webhook_signing_secrets)
        return WebhookService(self.database, sender)

    @cached_property
    def streams(self) -> StreamService:
        from langgraph_serverless.services.streams import StreamService

        return StreamService(self.event_hub, self.runs, self.settings)

    @cached_property
    def mcp(self) -> McpService:
        from langgraph_serverless.services.following import RunFollower
        from langgraph_serverless.services.mcp import McpService

        follower = RunFollower(self.event_hub, self.runs, self.settings)
        return McpService(self.assistants, self.runs, self.streams, follower, self.catalog)

    @cached_property
    def thread_index(self) -> ThreadIndex | None:
        """What runs a thread has had, for its readers; None without Redis."""
        if self.redis is None:
            return None
        from langgraph_serverless.streaming.sealed import SealedIndex
        from langgraph_serverless.streaming.thread_index import ThreadIndex

        prefix = self.settings.redis_key_prefix
        if self.cipher is None or self.encryption_handlers is None:
            return ThreadIndex(self.redis, prefix, self.settings)
        return SealedIndex(self.redis, prefix, self.settings, self.cipher)

    @cached_property
    def thread_streams(self) -> ThreadStreamService:
        from langgraph_serverless.services.thread_streams import ThreadStreamService

        return ThreadStreamService(
            self.event_hub, self.thread_index, self.database, self.runs, self.settings, authorize=self.authorize
        )

    @cached_property
    def protocol_streams(self) -> ProtocolStreamService:
        from langgraph_serverless.services.protocol_streams import ProtocolStreamService

        return ProtocolStreamService(self.thread_streams, self.settings)

    @cached_property
    def a2a_tasks(self) -> A2ATasks:
        from langgraph_serverless.services.a2a_tasks import A2ATasks

        return A2ATasks(
            self.database,
            self.catalog,
            self.settings,
            assistants=self.assistants,
            threads=self.threads,
            runs=self.runs,
            events=self.event_hub,
        )

    @cached_property
    def a2a(self) -> A2AService:
        from langgraph_serverless.services.a2a import A2AService

        return A2AService(
            self.database,
            self.a2a_tasks,
            threads=self.threads,
            runs=self.runs,
            priorities=self.priorities,
            webhooks=self.webhook_addresses,
            authorize=self.authorize,
        )

    @cached_property
    def a2a_push(self) -> A2APushService:
        from langgraph_serverless.services.a2a_push import A2APushService

        return A2APushService(self.database, self.a2a_tasks, self.threads, self.webhook_addresses)

    @cached_property
    def event_hub(self) -> EventHub | SealedHub | None:
        """Where readers get what runs emit; None without Redis."""
        if self.redis is None:
            return None
        from langgraph_serverless.streaming.hub import EventHub

        settings = self.settings
        hub = EventHub(self.redis, settings.redis_key_prefix, keepalive=settings.stream_keepalive)
        if self.cipher is None or self.encryption_handlers is None:
            return hub
        from langgraph_serverless.streaming.sealed import SealedHub

        return SealedHub(hub, self.cipher)

    @cached_property
    def crons(self) -> CronService:
        from langgraph_serverless.services.crons import CronService

        return CronService(
            self.database,
            self.catalog,
            self.webhook_addresses,
            bell=self.bell if self.redis is not None else None,
            least_interval=self.settings.cron_least_interval,
            most=self.settings.max_crons,
            authorize=self.authorize,
        )

    @property
    def embedder(self) -> Embedder | None:
        """What the store embeds with; None without an index, and here, as it is the project's own code."""
        return None

    @cached_property
    def store(self) -> StoreService:
        from langgraph_serverless.services.store import StoreService

        return StoreService(self.database, self.catalog.manifest.store, self.embedder, authorize=self.authorize)

    @cached_property
    def system(self) -> SystemService:
        from langgraph_serverless.services.system import SystemService

        settings = self.settings
        return SystemService(
            self.database.as_system(),
            self._redis_trouble,
            groups=settings.group_limits,
            jobs_per_worker=settings.n_jobs_per_worker,
        )

    async def _redis_trouble(self) -> str | None:
        # the bell is made when it is first asked, as functions that only say how they are have no other use for it
        return await self.bell.trouble()

    async def rest(self) -> None:
        """Before the process stands still, as functions do between invocations: let go of what would have to listen meanwhile."""
        if (hub := vars(self).get("event_hub")) is not None:
            await hub.aclose()
        self._rested_at = time.time()  # the monotonic clock may stand still too

    async def wake(self) -> None:
        """After a rest: let go of what is likely to be dead, which is not noticed before it has been waited for. Postgres' pool checks."""
        redis = vars(self).get("redis")
        if redis is None or not 0 < self._rested_at < time.time() - _LONG_REST:
            return
        pool: Any = redis.connection_pool
        for connection in (*pool._available_connections, *pool._in_use_connections):
            # nobody on the other side may be there to agree
            await connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close what has been opened; what has not, stays so."""
        opened = vars(self)
        if (hub := opened.get("event_hub")) is not None:
            await hub.aclose()
        if (log := opened.get("event_log")) is not None:
            await log.aclose()
        if (redis := opened.get("redis")) is not None:
            await redis.aclose()
        if (database := opened.get("database")) is not None:
            await database.aclose()


def read_manifest(settings: Settings) -> Manifest:
    """The manifest that the build wrote.

    Raises:
        ProjectError: if there is none, or it cannot be read.
    """
    path = settings.manifest_path
    if path is None:
        raise ProjectError("LANGGRAPH_MANIFEST is not set: it names the manifest that the build wrote")
    try:
        return Manifest.from_json(orjson.loads(path.read_bytes()))
    except (OSError, ValueError, ProjectError) as error:
        raise ProjectError(f"The manifest {path} cannot be read: {error}") from error
