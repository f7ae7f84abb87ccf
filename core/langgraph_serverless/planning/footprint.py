"""What this server was measured to leave behind and to ask for: ``python -m bench.footprint`` prints these figures anew.

Measured with 200 runs of each kind on Postgres 18 and Valkey 9, two processors of about 3 GHz, LangGraph 1.2, default durability. Bytes and
counts are the same everywhere, and ``tests/integration/test_plan.py`` holds them against a running server; milliseconds are that
machine's, and are what is least sure on another.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What one of something adds."""

    #: Tables and indexes of Postgres, before anything is deleted.
    database_bytes: float
    #: Postgres' log, which is written first.
    wal_bytes: float
    commits: float
    #: Memory of Redis, without the events' own bytes, until they are forgotten.
    redis_bytes: float
    #: Commands, those inside scripts among them.
    redis_commands: float
    database_cpu_ms: float
    #: API and worker together.
    server_cpu_ms: float


MEASURED = {
    # a thread, its run in the background, a join, and the first superstep
    "run": Footprint(
        database_bytes=13_500,
        wal_bytes=20_200,
        commits=13.6,
        redis_bytes=9_200,
        redis_commands=52,
        database_cpu_ms=6.3,
        server_cpu_ms=11.6,
    ),
    "superstep": Footprint(
        database_bytes=3_450,
        wal_bytes=4_400,
        commits=2.1,
        redis_bytes=0,
        redis_commands=0,
        database_cpu_ms=0.44,
        server_cpu_ms=1.2,
    ),
    # a kilobyte that a superstep writes to its channels: as the node's write and as the channel's value
    "state_kilobyte": Footprint(
        database_bytes=2_550,
        wal_bytes=2_430,
        commits=0,
        redis_bytes=60,
        redis_commands=0,
        database_cpu_ms=0.05,
        server_cpu_ms=0.06,
    ),
    "event": Footprint(
        database_bytes=0,
        wal_bytes=0,
        commits=0,
        redis_bytes=22,
        redis_commands=1.0,
        database_cpu_ms=0.0,
        server_cpu_ms=0.013,
    ),
    # that a client streams the run instead of joining and asking for it: fewer requests
    "stream": Footprint(
        database_bytes=0,
        wal_bytes=0,
        commits=0,
        redis_bytes=0,
        redis_commands=1.0,
        database_cpu_ms=-1.2,
        server_cpu_ms=-2.2,
    ),
}

#: Connections to Postgres that an invocation may hold: a worker's pool grows to 20 under load (DATABASE_POOL_MAX_SIZE in the
#: template), and its heartbeat has one.
CONNECTIONS = {"api": 1, "stream": 1, "worker": 21, "scheduler": 1}
#: Runs a second that one queue hands out: 100 with limits per group, 460 without (docs/design/fault-tests.md).
CLAIMS_PER_SECOND = 100
#: START, END and REPORT, and two lines of ours.
LOG_BYTES_PER_INVOCATION = 1_500
#: Aurora: 1 ACU has 2 GiB and the processor that comes with it, an eighth of a vCPU per GiB in the r6g family.
VCPUS_PER_ACU = 0.25
#: Aurora PostgreSQL's default of max_connections: memory / 9,531,392 bytes, at most 5,000; and at most 2,000 where the least
#: capacity is 0 or 0.5 (https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2.setting-capacity.html).
CONNECTIONS_PER_ACU = 2 * 2**30 / 9_531_392
MOST_CONNECTIONS = 5_000
MOST_CONNECTIONS_SMALL = 2_000
