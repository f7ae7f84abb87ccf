-- name: purge_threads
-- Removes threads whose time is over, with everything that belongs to them, a batch at a time: hidden threads of stateless
-- runs, and threads with a time to live. Busy ones stay until their runs have ended; the status is looked at again once
-- the row is locked, so a run that is created meanwhile keeps its thread.
WITH gone AS (
    DELETE FROM lgs.thread
    WHERE thread_id IN (
        SELECT thread_id
        FROM lgs.thread
        WHERE status <> 'busy'
          AND (purge_at <= clock_timestamp() OR (expires_at <= clock_timestamp() AND ttl_strategy = 'delete'))
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    RETURNING thread_id::text AS thread_id
), checkpoints_gone AS (
    DELETE FROM checkpoints c USING gone WHERE c.thread_id = gone.thread_id
), blobs_gone AS (
    DELETE FROM checkpoint_blobs b USING gone WHERE b.thread_id = gone.thread_id
), writes_gone AS (
    DELETE FROM checkpoint_writes w USING gone WHERE w.thread_id = gone.thread_id
)
SELECT count(*) AS count FROM gone
