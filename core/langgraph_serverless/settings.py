"""What the environment says, read once.

``Settings.from_env`` reads every variable, reports all wrong values together in one ``SettingsError`` and gives a frozen
object; nothing else in the package reads ``os.environ``, but for variables that the user's project names. Names are those of
the official server wherever one exists, so that a deployment moves without edits. Times are in seconds unless a name says
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from langgraph_serverless import setting_values as values
from langgraph_serverless.addresses import Address
from langgraph_serverless.domain.priorities import GroupLimits
from langgraph_serverless.domain.webhook_rules import WebhookRules
from langgraph_serverless.errors import SettingsError
from langgraph_serverless.redaction import conceal_environment

DURABILITIES = ("sync", "async", "exit")


def _setting(names: str, parse: Callable[[str], Any], default: Any, doc: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"names": tuple(names.split()), "parse": parse, "doc": doc})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one process. Each field says which variables it is read from and what it means."""

    database_uri: str = _setting(
        "DATABASE_URI POSTGRES_URI_CUSTOM POSTGRES_URI",
        values.postgres_uri,
        "",
        "Postgres 15.8 or later; required.",
        secret=True,
    )
    redis_uri: str = _setting(
        "REDIS_URI_CUSTOM REDIS_URI",
        values.redis_uri,
        "",
        "Redis 7 or Valkey. Empty: no bell and no event log; runs are found by polling and streams fall back to snapshots.",
        secret=True,
    )
    redis_key_prefix: str = _setting("REDIS_KEY_PREFIX", values.text, "lgs", "First part of every Redis key.")
    config_path: Path | None = _setting("LANGGRAPH_CONFIG", values.path, None, "Path of the project's langgraph.json.")
    manifest_path: Path | None = _setting(
        "LANGGRAPH_MANIFEST", values.path, None, "Path of the manifest that the build wrote; API functions read it."
    )
    n_jobs_per_worker: int = _setting(
        "N_JOBS_PER_WORKER", values.whole(1, 1000), 10, "Runs that one worker executes at once."
    )
    run_timeout: float = _setting(
        "BG_JOB_TIMEOUT_SECS", values.seconds(1), 3600.0, "A run that takes longer ends in `timeout`."
    )
    shutdown_grace: float = _setting(
        "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS",
        values.seconds(0),
        10.0,
        "On shutdown, how long runs may take to reach a superstep boundary before they are released as they are.",
    )
    shutdown_delay: float = _setting(
        "SHUTDOWN_DELAY_SECS",
        values.seconds(0),
        0.0,
        "On SIGTERM, how long `serve` goes on to take requests while `/ok?check_db=1` says that it is leaving: as long as a load balancer "
        "needs to notice.",
    )
    request_grace: float = _setting(
        "SHUTDOWN_REQUEST_GRACE_SECS",
        values.seconds(0),
        20.0,
        "On SIGTERM and after that delay, how long `serve` lets requests end. Streams and waits are broken off at once: they go on with "
        "another process.",
    )
    default_durability: str = _setting(
        "DEFAULT_DURABILITY", values.choice(*DURABILITIES), "async", "Durability of runs whose request names none."
    )
    lease_duration: float = _setting(
        "LEASE_DURATION_SECS", values.seconds(1), 30.0, "How long a claim holds without a heartbeat."
    )
    stall_limit: float = _setting(
        "WORKER_STALL_LIMIT_SECS",
        values.seconds(1),
        600.0,
        "How long an `async` node may hold its worker's event loop without an await before that worker gives its runs up and ends.",
    )
    heartbeat_interval: float = _setting(
        "HEARTBEAT_INTERVAL_SECS", values.seconds(0.05), 10.0, "Time between heartbeats."
    )
    max_attempts: int = _setting(
        "MAX_RUN_ATTEMPTS",
        values.whole(1, 100),
        3,
        "A run that lost its worker this often, and did not get on in its last attempts, ends in `error`. With 1 so do all others that "
        "were in that worker, as no attempt is left in which to find out which of them it was.",
    )
    poll_interval: float = _setting(
        "QUEUE_POLL_INTERVAL_SECS",
        values.seconds(0.05),
        5.0,
        "How often an idle worker looks at the queue although no bell rang.",
    )
    sweep_interval: float = _setting(
        "SWEEP_INTERVAL_SECS", values.seconds(0.05), 5.0, "How often a worker takes back expired leases."
    )
    scheduler_interval: float = _setting(
        "SCHEDULER_INTERVAL_SECS",
        values.seconds(0.05),
        5.0,
        "How often the scheduler of a laptop or of `serve` ticks; on Lambda a schedule does.",
    )
    scheduler_nap: float = _setting(
        "SCHEDULER_NAP_SECS",
        values.seconds(0),
        0.0,
        "How long ticks may leave the database alone after one that has found nothing to do, so that a database that pauses when nobody "
        "asks it can do so. 0: not at all. Whatever is made ends it through Redis; if that is lost, it waits that long.",
    )
    stream_retention: float = _setting(
        "RESUMABLE_STREAM_TTL_SECONDS",
        values.seconds(1),
        600.0,
        "How long a run's events stay readable after its last event.",
    )
    stream_max_events: int = _setting(
        "STREAM_MAX_EVENTS", values.whole(100), 100_000, "Events kept per run; older ones are dropped first."
    )
    stream_max_bytes: int = _setting(
        "STREAM_MAX_BYTES",
        values.whole(65536),
        64 * 2**20,
        "Bytes of events kept per run; older ones are dropped first. Who missed some gets the state that the run leaves.",
    )
    stream_keepalive: float = _setting(
        "STREAM_KEEPALIVE_SECS",
        values.seconds(0.05),
        5.0,
        "Time between keep-alive bytes of streams, and of silent waits.",
    )
    stream_write_timeout: float = _setting(
        "STREAM_WRITE_TIMEOUT_SECS",
        values.seconds(0.1),
        300.0,
        "The long-lived server cuts off a client that has taken nothing of what is there for it for this long.",
    )
    stream_carry_over: bool = _setting(
        "STREAM_CARRY_OVER",
        values.flag,
        False,
        "Every event of a stream has an id, and joins go on after one, whether the run is resumable or not: so that what is broken off "
        "goes on in another connection. The wrapper script of the stream function turns it on, and so does `serve`.",
    )
    stream_deadline_margin: float = _setting(
        "STREAM_DEADLINE_MARGIN_SECS",
        values.seconds(0.1),
        15.0,
        "The stream function breaks an answer off when less time than this is left, but not before half of its time is over. More than "
        "a cold start takes, which API Gateway counts and Lambda does not.",
    )
    temporary_retention: float = _setting(
        "TEMPORARY_THREAD_RETENTION_SECS",
        values.seconds(0),
        600.0,
        "How long the hidden row of a finished stateless run stays, so that a wait can still fetch its result.",
    )
    idempotency_retention: float = _setting(
        "IDEMPOTENCY_RETENTION_SECS",
        values.seconds(1),
        86400.0,
        "How long a request's `Idempotency-Key` is remembered, with the answer.",
    )
    cron_least_interval: int = _setting(
        "CRON_LEAST_INTERVAL_SECS",
        values.whole(0, 3600),
        1,
        "A cron whose schedule fires more often is refused with 422. Schedules of seconds are allowed as long as it is 1; the "
        "template says 60, because its scheduler looks once a minute.",
    )
    max_crons: int = _setting(
        "MAX_CRONS_PER_TENANT",
        values.whole(0),
        0,
        "Most crons that a tenant may have: one more is refused with 422. 0: no limit. Without tenants it is for all of them.",
    )
    max_queued_runs: int = _setting(
        "MAX_QUEUED_RUNS_PER_TENANT",
        values.whole(0, values.MOST_RUNS),
        0,
        "Most runs of a tenant that may wait in the queue: one more is refused with 429, `Retry-After` and this name, unless a cron "
        "makes it. Requests at the same moment do not count each other's. 0: no limit. Without tenants it is for all of them.",
    )
    pool_min_size: int = _setting("DATABASE_POOL_MIN_SIZE", values.whole(0), 1, "Connections kept open by a process.")
    pool_max_size: int = _setting(
        "LANGGRAPH_POSTGRES_POOL_MAX_SIZE DATABASE_POOL_MAX_SIZE",
        values.whole(1),
        20,
        "Most connections of one process.",
    )
    pool_timeout: float = _setting(
        "DATABASE_POOL_TIMEOUT_SECS", values.seconds(0.1), 5.0, "Longest wait for a connection: then 503."
    )
    prepared_statements: bool = _setting(
        "DATABASE_PREPARED_STATEMENTS",
        values.flag,
        True,
        "Turn off behind RDS Proxy or PgBouncer, where they pin connections.",
    )
    tenant_from: str = _setting(
        "TENANT_FROM",
        values.text,
        "",
        "The field of the authenticated user that says whose data it is: `identity`, or one that the project's handler sets, such as "
        "`org`. Whoever lacks it is refused with 403. Empty: there are no tenants. See [tenants.md](tenants.md).",
    )
    row_level_security: bool = _setting(
        "ROW_LEVEL_SECURITY",
        values.flag,
        False,
        "Let the database keep tenants apart as well: with policies on every table, which `migrate` makes, so all processes and `migrate` "
        "have to agree. Needs `TENANT_FROM`. Costs two round trips for requests that take a single statement.",
    )
    cors_allow_origins: tuple[str, ...] = _setting(
        "CORS_ALLOW_ORIGINS",
        values.origins,
        ("*",),
        "Origins, with commas, whose pages may call the API from a browser, such as `https://chat.example.com`; `*` for any. None is "
        "allowed to send cookies.",
    )
    mount_prefix: str = _setting(
        "MOUNT_PREFIX",
        values.prefix,
        "",
        "Path below which the API is, such as `/api`, instead of `http.mount_prefix` of langgraph.json. `/ok` answers at the root too; "
        "`serve` answers everything there.",
    )
    max_body_bytes: int = _setting(
        "MAX_REQUEST_BODY_BYTES", values.whole(1024), 20 * 2**20, "Larger request bodies get 413."
    )
    studio_auth: bool = _setting(
        "STUDIO_AUTH",
        values.flag,
        False,
        "Let requests of Studio (`x-auth-scheme: langsmith`) in without the project's authentication, as the user "
        "`langgraph-studio-user`. Whoever can reach the server can claim to be Studio, so only `dev` turns it on. "
        "`auth.disable_studio_auth` wins.",
    )
    mask_errors: bool = _setting(
        "MASK_RUN_ERRORS",
        values.flag,
        True,
        "Show the text of well-known exceptions only; others read `An internal error occurred`.",
    )
    group_concurrency: int = _setting(
        "CONCURRENCY_LIMIT_PER_GROUP",
        values.whole(0, values.MOST_RUNS),
        0,
        "Most runs of one fairness group that run at once (see [operations.md](operations.md#priorities-and-limits)); "
        "0: any number. Runs without a group are the group `default`.",
    )
    group_concurrency_limits: Mapping[str, int] | None = _setting(
        "CONCURRENCY_LIMITS_BY_GROUP",
        values.limits,
        None,
        'The same for groups that are named, as a JSON object such as `{"acme": 50, "default": 0}`; wins over '
        "`CONCURRENCY_LIMIT_PER_GROUP`.",
    )
    worker_function_name: str = _setting(
        "WORKER_FUNCTION_NAME",
        values.text,
        "",
        "Lambda function that is invoked when a run waits and no worker has a free slot.",
    )
    worker_invocations: int = _setting(
        "WORKER_INVOCATIONS_PER_RING",
        values.whole(1, 1000),
        20,
        "Most worker functions that are invoked at once; those ring for the runs that are left.",
    )
    worker_start: float = _setting(
        "WORKER_START_SECS",
        values.seconds(0.1),
        15.0,
        "How long an invoked worker function may take to begin: a cold start with everything that the project imports. A longer one "
        "costs another invocation; a lost invocation costs its runs that long.",
    )
    worker_concurrency: int = _setting(
        "WORKER_CONCURRENCY",
        values.whole(0),
        0,
        "Most worker functions at once, as its reserved concurrency says: nobody invokes one more, which Lambda would only keep back. "
        "0: as many as the runs need.",
    )
    state_function_name: str = _setting(
        "STATE_FUNCTION_NAME",
        values.text,
        "",
        "Lambda function that is asked to answer requests that take the user's code, such as supersteps of a new thread.",
    )
    worker_idle_grace: float = _setting(
        "WORKER_IDLE_GRACE_SECS",
        values.seconds(0),
        20.0,
        "How long a worker function stays for further runs when it has none.",
    )
    worker_deadline_margin: float = _setting(
        "WORKER_DEADLINE_MARGIN_SECS",
        values.seconds(1),
        60.0,
        "A worker function hands its runs on when less time than this is left, or less than twice what its slowest node has taken, "
        "but not before half of its time is over.",
    )
    webhook_allowed_hosts: tuple[str, ...] = _setting(
        "WEBHOOK_ALLOWED_HOSTS",
        values.hosts,
        (),
        "Host names, addresses and networks (comma-separated) that webhooks may go to although they are not public, such as "
        "`127.0.0.1,::1` for a receiver on the same machine.",
    )
    webhook_signing_secrets: tuple[bytes, ...] = _setting(
        "WEBHOOK_SIGNING_SECRETS",
        values.secrets,
        (),
        "Secrets (`whsec_...`, comma-separated, the newest first) with which webhooks are signed after Standard Webhooks. "
        "Empty: not signed.",
        secret=True,
    )
    aes_key: bytes = _setting(
        "LANGGRAPH_AES_KEY",
        values.parse_aes_key,
        b"",
        "Encrypts checkpoints where they are stored: 16, 24 or 32 bytes, as text. The project's dependencies must have `cryptography`. "
        "Empty: not encrypted. See [encryption.md](encryption.md).",
        secret=True,
    )
    aes_old_keys: tuple[bytes, ...] = _setting(
        "LANGGRAPH_AES_OLD_KEYS",
        values.aes_keys,
        (),
        "Earlier values of `LANGGRAPH_AES_KEY` (comma-separated), with which checkpoints are still read.",
        secret=True,
    )
    webhook_rules: WebhookRules | None = _setting(
        "LANGGRAPH_WEBHOOKS",
        values.webhook_rules,
        None,
        "The section `webhooks` of langgraph.json as JSON (see [webhooks.md](webhooks.md)); replaces the project's.",
    )
    webhook_variables: Mapping[str, str] | None = _setting(
        "WEBHOOK_VARIABLES",
        values.variables,
        None,
        "Variables for the headers of webhooks, as a JSON object of strings; they win over the environment's.",
        secret=True,
    )
    webhook_base_url: str = _setting(
        "WEBHOOK_BASE_URL",
        values.address,
        "",
        "Address of this server for webhooks whose URL is a path, where `webhooks.url.disable_loopback` is `false`. "
        "`langgraph-serverless dev` sets it.",
    )
    log_level: str = _setting("LOG_LEVEL", values.text, "INFO", "DEBUG, INFO, WARNING or ERROR.")
    log_json: bool = _setting(
        "LOG_JSON",
        values.flag,
        False,
        "Log one JSON object per line. Functions always do, `serve` and `worker` unless they write to a terminal or it is set.",
    )

    addresses: Mapping[str, Address] = field(
        default_factory=dict,
        repr=False,
        metadata={
            "names": (),
            "parse": None,
            "doc": "Those that can be read again, by the field; functions have them.",
        },
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: Any) -> Settings:
        """Read all settings from ``environ``; ``overrides`` (by field name) win. No line of the log shows its secrets from then on.

        Raises:
            SettingsError: with every problem found, not just the first.
        """
        conceal_environment(environ)
        values: dict[str, Any] = {}
        problems: list[str] = []
        for setting in fields(cls):
            if setting.name in overrides:
                values[setting.name] = overrides[setting.name]
                continue
            for name in setting.metadata["names"]:
                raw = environ.get(name)
                if raw is None or raw == "":
                    continue
                try:
                    values[setting.name] = setting.metadata["parse"](raw)
                except ValueError as error:
                    # the value itself may hold a password
                    problems.append(f"{name} is not valid: {error}")
                break
        unknown = overrides.keys() - {setting.name for setting in fields(cls)}
        if unknown:
            raise TypeError(f"unknown settings: {sorted(unknown)}")
        if not values.get("database_uri") and not any("DATABASE_URI" in problem for problem in problems):
            problems.append("DATABASE_URI is not set")
        lease = values.get("lease_duration", cls.lease_duration)
        if values.get("heartbeat_interval", cls.heartbeat_interval) * 2 > lease:
            problems.append("HEARTBEAT_INTERVAL_SECS must be at most half of LEASE_DURATION_SECS")
        if values.get("row_level_security") and not values.get("tenant_from"):
            problems.append("ROW_LEVEL_SECURITY needs TENANT_FROM, which says whose data it is")
        if problems:
            raise SettingsError(problems)
        return cls(**values)

    @classmethod
    def value_of(cls, field_name: str, raw: str) -> Any:
        """What a variable's text means for this field.

        Raises:
            ValueError: nothing; the text says what it must be.
        """
        return next(setting for setting in fields(cls) if setting.name == field_name).metadata["parse"](raw)

    @property
    def database_address(self) -> Address:
        """Where to connect; ``database_uri``, or what has come after it."""
        return self.addresses.get("database_uri") or Address(self.database_uri)

    @property
    def redis_address(self) -> Address:
        """The same for ``redis_uri``."""
        return self.addresses.get("redis_uri") or Address(self.redis_uri)

    @property
    def group_limits(self) -> GroupLimits:
        """How many runs of a fairness group may run at once."""
        return GroupLimits(most=self.group_concurrency, of=self.group_concurrency_limits or {})

    def replace(self, **changes: Any) -> Settings:
        """A copy with other values."""
        return replace(self, **changes)

    @classmethod
    def variables(cls) -> Mapping[str, str]:
        """Every variable that is read, with its sentence; documentation and tests are made from it."""
        return {name: setting.metadata["doc"] for setting in fields(cls) for name in setting.metadata["names"]}
