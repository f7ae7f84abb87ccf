"""Looks at a deployment's databases and says in plain sentences what is wrong and what to do about it.

Promises to change nothing, and that a check that cannot be made is a finding itself, so one broken part never hides the
others. Rows are named by their ids; what runs and threads hold is never shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from langgraph_serverless.domain.priorities import GroupLimits
from langgraph_serverless.persistence.doctor import DoctorRepository
from langgraph_serverless.persistence.invariants import INVARIANTS, find_broken
from langgraph_serverless.persistence.pool import Connection

#: Rows that a finding names.
MOST_ROWS = 5
#: A run or cron that nobody has taken for this long (seconds) says that nobody is there: the scheduler comes every minute.
PATIENCE = 120.0
#: Clocks further apart than this (seconds) are worth a word.
CLOCK_TOLERANCE = 2.0
OLDEST_POSTGRES = 150008


class Level(StrEnum):
    OK = "ok"
    #: Good to know; nothing is broken.
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence of the doctor's."""

    area: str
    level: Level
    says: str
    #: What to do; empty if nothing is.
    do: str = ""
    #: The first rows that it is about.
    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    #: Statements that mend these rows.
    mend: Sequence[str] = field(default_factory=tuple)


class DoctorService:
    """Examines one database through one connection.

    Args:
        migrations: what this version has, name to checksum.
        prepared: whether servers are told to use prepared statements.
        wants_vectors: the project has a semantic index.
        asleep: nothing serves this database at the moment, so waiting runs are no wonder.
        groups: the limits of fairness groups, at which runs wait as they should.
        tenants: the database is to keep them apart.
    """

    def __init__(
        self,
        *,
        migrations: Mapping[str, str],
        prepared: bool,
        wants_vectors: bool,
        asleep: bool = False,
        groups: GroupLimits | None = None,
        tenants: bool = False,
    ) -> None:
        self._tenants = tenants
        self._groups = groups or GroupLimits()
        self._expected = migrations
        self._prepared = prepared
        self._wants_vectors = wants_vectors
        self._asleep = asleep
        self._doctor = DoctorRepository()

    async def examine(self, connection: Connection) -> list[Finding]:
        """Everything that can be said about the database."""
        before = time.time()
        server = await self._doctor.describe_server(connection)
        findings = list(self._server(server, connection.info.backend_pid, server["now"] - (before + time.time()) / 2))
        if not server["migrated"]:
            return [*findings, _migrations("The database has not been migrated: none of the tables is there.")]
        schema = list(self._schema(await self._doctor.migrations(connection)))
        findings += schema
        findings += self._policies(await self._doctor.look_at_tenants(connection))
        for index in await self._doctor.invalid_indexes(connection):
            findings.append(
                _problem(
                    "postgres", f"The index lgs.{index} is not finished.", f"Rebuild it: REINDEX INDEX lgs.{index};"
                )
            )
        if any(finding.level is Level.PROBLEM for finding in schema):
            return findings  # the queries are those of this version's schema
        return [*findings, *await self._queue(connection), *await self._invariants(connection)]

    def _server(self, server: Mapping[str, Any], announced_pid: int, ahead: float) -> Iterator[Finding]:
        says = f"Postgres {server['version'].split()[0]} answers, {server['connections']} of {server['most_connections']} connections in use."
        if server["number"] < OLDEST_POSTGRES:
            yield _problem("postgres", f"{says} It is too old.", "Use Postgres 15.8 or later.")
        else:
            yield _ok("postgres", says)
        if server["connections"] > 0.9 * server["most_connections"]:
            do = "Raise max_connections, lower DATABASE_POOL_MAX_SIZE, or put a pooler in front."
            yield _problem("postgres", "Nearly all connections are in use; the next process may get none (503).", do)
        if server["read_only"]:
            yield _problem("postgres", "It is read-only, so it may be a replica.", "Let DATABASE_URI name the primary.")
        if server["fsync"] == "off" or server["synchronous_commit"] in ("off", "local"):
            do = "Set fsync and synchronous_commit to on."
            yield _problem("postgres", "It acknowledges what it may still lose: runs could vanish after a crash.", do)
        if server["backend_pid"] != announced_pid:
            do = "Run migrations past it, on a direct connection."
            if self._prepared:
                do += " If statements fail or pin connections, set DATABASE_PREPARED_STATEMENTS=false."
            yield Finding(area="postgres", level=Level.NOTE, says="A pooler is in front of Postgres.", do=do)
        if self._wants_vectors and not server["has_vector"]:
            do = "Install pgvector on the server and run 'langgraph-serverless migrate' with LANGGRAPH_CONFIG set."
            yield _problem("postgres", "store.index of langgraph.json needs the extension vector.", do)
        apart = f"This machine's clock is {abs(ahead):.1f} s {'behind' if ahead > 0 else 'ahead of'} the database's."
        if abs(ahead) > CLOCK_TOLERANCE:
            do = "Leases and crons go by the database's. Signed webhooks carry this machine's: set it right (NTP)."
            yield Finding(area="postgres", level=Level.NOTE, says=apart, do=do)
        else:
            yield _ok("postgres", f"The clocks are less than {CLOCK_TOLERANCE:.0f} s apart.")

    def _schema(self, applied: Mapping[str, str]) -> Iterator[Finding]:
        missing = [name for name in self._expected if name not in applied]
        edited = [name for name, checksum in self._expected.items() if applied.get(name, checksum) != checksum]
        newer = [name for name in applied if name not in self._expected]
        if missing:
            yield _migrations(f"Migrations are missing: {', '.join(missing)}.")
        if edited:
            do = "Install the version that the database was migrated with, or compare the schemas."
            yield _problem("postgres", f"Migrations differ from what was applied: {', '.join(edited)}.", do)
        if newer:
            do = "Another version has migrated this database; install the same one here."
            says = f"The database has migrations that this version does not know: {', '.join(newer)}."
            yield Finding(area="postgres", level=Level.NOTE, says=says, do=do)
        if not missing and not edited:
            yield _ok("postgres", f"All {len(self._expected)} migrations are applied, as this version has them.")

    def _policies(self, found: Mapping[str, Any]) -> Iterator[Finding]:
        if self._tenants and (found["open"] or not found["member"]):
            lacks = f"policies on {', '.join(found['open'])}" if found["open"] else "the right to act for a tenant"
            do = "Run 'langgraph-serverless migrate' with ROW_LEVEL_SECURITY=true, as the owner of the tables."
            yield _problem("postgres", f"ROW_LEVEL_SECURITY is on, and the database's user lacks {lacks}.", do)
        elif self._tenants:
            yield _ok("postgres", "Every table has a policy that keeps tenants apart.")
        if not found["sees_all"]:
            do = "Connect as the owner of the tables; requests act for their tenants by themselves."
            yield _problem("postgres", "The database's user does not see all rows, so runs would not be claimed.", do)

    async def _queue(self, connection: Connection) -> list[Finding]:
        findings = []
        stalled = Level.NOTE if self._asleep else Level.PROBLEM
        waiting = await self._doctor.waiting_runs(connection, seconds=PATIENCE, groups=self._groups, limit=MOST_ROWS)
        if waiting:
            says = f"Runs have waited for up to {waiting[0]['seconds']} s, and no worker takes them."
            do = "Start a worker, or look at its log for 'cannot claim'. If all are busy, raise N_JOBS_PER_WORKER."
            findings.append(Finding(area="queue", level=stalled, says=says, do=do, rows=waiting))
        overdue = await self._doctor.overdue_crons(connection, seconds=PATIENCE, limit=MOST_ROWS)
        if overdue:
            says = f"Crons are up to {overdue[0]['seconds']} s late."
            do = "The scheduler fires them: look whether it runs, or whether its function is invoked every minute."
            findings.append(Finding(area="queue", level=stalled, says=says, do=do, rows=overdue))
        dead = await self._doctor.dead_webhooks(connection, limit=MOST_ROWS)
        if dead:
            says = "Webhooks were given up within the last week, as their receivers did not accept them."
            do = "Mend the receiver; last_error says what it answered. Then run 'langgraph-serverless webhooks replay' with their ids."
            findings.append(Finding(area="queue", level=Level.NOTE, says=says, do=do, rows=dead))
        return findings or [_ok("queue", "Nothing waits for long: no run, no cron, no webhook.")]

    async def _invariants(self, connection: Connection) -> list[Finding]:
        findings = []
        for invariant in INVARIANTS:
            rows = await find_broken(
                connection, invariant, worker=False, pending_seconds=PATIENCE, sweep_seconds=PATIENCE, limit=MOST_ROWS
            )
            if rows:
                # what a stopped server left running is taken back when it starts again
                level = Level.NOTE if self._asleep and invariant.number == "3" else Level.PROBLEM
                mend = sorted({invariant.mend.format(**row) for row in rows}) if invariant.mend else ()
                findings.append(
                    Finding(
                        area="invariants",
                        level=level,
                        says=f"{invariant.broken} (invariant {invariant.number})",
                        do=invariant.advice,
                        rows=[{name: row[name] for name in row if name != "lease_history"} for row in rows],
                        mend=mend,
                    )
                )
        held = len(INVARIANTS) - len(findings)
        return [*findings, _ok("invariants", f"{held} of {len(INVARIANTS)} invariants hold.")]


def _ok(area: str, says: str) -> Finding:
    return Finding(area=area, level=Level.OK, says=says)


def _problem(area: str, says: str, do: str) -> Finding:
    return Finding(area=area, level=Level.PROBLEM, says=says, do=do)


def _migrations(says: str) -> Finding:
    return _problem("postgres", says, "Run 'langgraph-serverless migrate'; on AWS, invoke the migrate function.")
