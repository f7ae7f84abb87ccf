"""Who wrote what, noted by Postgres itself, and which of it came from a worker that the run had been taken from (R3).

``install`` puts triggers on a test's database. They note each write of a row that belongs to a run with the process that wrote
it; a process says who it is in its database URI (``as_process``), so nothing here relies on leases or on what a worker
believes. ``stale`` then goes through the notes in order: from the claim of a run to its end or its requeueing one process owns
it, and whatever another worker writes for it meanwhile or afterwards is stale.

The order is that of the writes: a note is made while the run's row is locked, by the fence or by the write itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg

_TRIGGERS = """
CREATE TABLE audit (
    seq bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tx bigint NOT NULL DEFAULT txid_current(), process text NOT NULL DEFAULT COALESCE(current_setting('test.process', true), ''),
    place text NOT NULL, thread_id text NOT NULL, token uuid);

CREATE FUNCTION audit_run() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE what text;
BEGIN
    what := CASE
        WHEN TG_OP = 'DELETE' THEN 'delete'
        WHEN NEW.lease_token IS NOT NULL AND NEW.lease_token IS DISTINCT FROM OLD.lease_token THEN 'claim'
        WHEN OLD.lease_token IS NULL THEN NULL
        WHEN NEW.lease_token IS NOT NULL THEN 'heartbeat'
        WHEN NEW.lease_history -> -1 ->> 'end' = 'expired' THEN 'requeue'
        WHEN NEW.lease_history -> -1 ->> 'end' = 'handoff' THEN 'handoff'
        ELSE 'settle' END;
    IF what IS NOT NULL THEN
        INSERT INTO audit (place, thread_id, token)
        VALUES (what, OLD.thread_id, CASE WHEN what = 'claim' THEN NEW.lease_token ELSE OLD.lease_token END);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE OR DELETE ON lgs.run FOR EACH ROW EXECUTE FUNCTION audit_run();

CREATE FUNCTION audit_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (place, thread_id, token) VALUES (TG_TABLE_NAME, NEW.thread_id, NEW.lease_token);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON checkpoints FOR EACH ROW EXECUTE FUNCTION audit_state();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON checkpoint_writes FOR EACH ROW EXECUTE FUNCTION audit_state();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON checkpoint_blobs FOR EACH ROW EXECUTE FUNCTION audit_state();

CREATE FUNCTION audit_other() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (place, thread_id)
    VALUES (TG_TABLE_NAME, CASE WHEN TG_TABLE_NAME = 'store' THEN to_jsonb(NEW) ->> 'key' ELSE to_jsonb(NEW) ->> 'thread_id' END);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON lgs.thread FOR EACH ROW EXECUTE FUNCTION audit_other();
CREATE TRIGGER audit AFTER INSERT ON lgs.outbox FOR EACH ROW EXECUTE FUNCTION audit_other();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON store FOR EACH ROW EXECUTE FUNCTION audit_other();
"""
#: What only the owner of a run may do with its row; anybody may requeue it.
OWNERS = {"heartbeat", "settle", "handoff", "delete"}


def install(database_uri: str) -> None:
    with psycopg.connect(database_uri, autocommit=True) as connection:
        connection.execute(_TRIGGERS)


def as_process(database_uri: str, name: str) -> str:
    """The address for a process whose writes are to be noted under this name."""
    return f"{database_uri}{'&' if '?' in database_uri else '?'}options={quote(f'-c test.process={name}')}"


@dataclass(slots=True)
class _Ownership:
    process: str | None = None
    token: Any = None
    #: The transaction that ended it: what else is in it was written before.
    ended_in: int = 0


def stale(notes: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """By place, how many writes came from a worker that did not own the run. Writes without a process are the API's.

    Args:
        notes: the rows of ``audit`` in order, of threads with one run each.
    """
    found: Counter[str] = Counter()
    owners: dict[str, _Ownership] = {}
    for note in notes:
        owner = owners.setdefault(note["thread_id"], _Ownership())
        place, process, token = note["place"], note["process"], note["token"]
        if place == "claim":
            owners[note["thread_id"]] = _Ownership(process, token)
        elif place == "requeue":
            owner.process = owner.token = None
        elif (
            process
            and owner.ended_in != note["tx"]
            and (owner.process != process or (token is not None and owner.token != token))
        ):
            found["run" if place in OWNERS else place] += 1
        elif place in OWNERS - {"heartbeat"}:
            owner.process, owner.token, owner.ended_in = None, None, note["tx"]
    return found
