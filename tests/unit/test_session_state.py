"""Behind RDS Proxy and PgBouncer a connection is lent for a transaction: nothing of ours outlives one, but for what is named here.

What pins a connection of RDS Proxy for PostgreSQL is listed by AWS
(https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy-pinning.html); a transaction pooler breaks on the same.
``tests/integration/test_pooler.py`` runs everything behind PgBouncer.
"""

import re
from pathlib import Path

CORE = Path(__file__).parents[2] / "core" / "langgraph_serverless"
SESSION_STATE = re.compile(
    r"""
      \bpg_(try_)?advisory_(?!xact)(un)?lock\w*   # held until the session ends; those of a transaction are not
    | \bSET\s+(SESSION\s+)?(?!LOCAL\b)[a-z_.]+\s*(TO\b|=\s*'|=\s*(on|off|DEFAULT)\b)
    | \bset_config\s*\([^()]*,\s*false\s*\)
    | ^\s*(RESET|DISCARD|LISTEN|UNLISTEN|LOAD|PREPARE|EXECUTE|DEALLOCATE)\s+(?!FUNCTION\b)\w
    | \bTEMP(ORARY)?\s+(TABLE|VIEW|SEQUENCE)\b
    | \b(DECLARE\s+\w+\s+.*CURSOR|WITH\s+HOLD)\b
    | \b(nextval|setval|currval|lastval)\s*\(
    """,
    re.VERBOSE | re.MULTILINE,
)
#: The migration runs by itself, and is to reach Postgres directly.
OF_THE_MIGRATION = {"migrate.py", "tenants.sql"}
#: In statements of UPDATE, where columns are set to constants.
COLUMNS = re.compile(r"\bSET\s+(status|name|kind)\s*=\s*'")


def found(text: str) -> list[str]:
    without_comments = re.sub(r"--.*|^\s*#.*", "", text, flags=re.MULTILINE)
    hits = (match[0] for match in SESSION_STATE.finditer(without_comments))
    return [hit for hit in hits if not COLUMNS.match(hit)]


def test_nothing_outlives_its_transaction() -> None:
    sources = [*CORE.rglob("*.sql"), *CORE.rglob("*.py")]
    assert len(sources) > 100
    hits = {
        path.name: found(path.read_text(encoding="utf-8"))
        for path in sources
        if path.suffix == ".sql" or re.search(r"\.execute\(|LiteralString", path.read_text(encoding="utf-8"))
    }
    hits = {name: there for name, there in hits.items() if there}
    assert hits.keys() == OF_THE_MIGRATION, hits
    assert all("advisory" in hit for hit in hits["migrate.py"])


def test_session_state_would_be_found() -> None:
    for statement in (
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1)",
        "SET search_path TO lgs",
        "SET SESSION statement_timeout = '5s'",
        "SELECT set_config('statement_timeout', '5s', false)",
        "LISTEN runs",
        "CREATE TEMP TABLE x ()",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT nextval('x')",
        "DISCARD ALL",
    ):
        assert found(statement), statement
    for statement in ("SELECT pg_advisory_xact_lock(1)", "SET LOCAL work_mem = '1MB'", "UPDATE t SET status = 'idle'"):
        assert not found(statement), statement
