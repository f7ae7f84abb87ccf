-- name: insert_thread
-- A new thread; no row if the id is taken.
INSERT INTO lgs.thread (thread_id, tenant, metadata, ttl_strategy, ttl_minutes, expires_at)
VALUES (%(thread_id)s, %(tenant)s, %(metadata)s, %(ttl_strategy)s, %(ttl_minutes)s,
    now() + make_interval(secs => %(ttl_minutes)s::float8 * 60))
ON CONFLICT (thread_id) DO NOTHING
RETURNING *

-- name: get_thread
-- The visible thread with this id.
SELECT * FROM lgs.thread WHERE thread_id = %(thread_id)s AND purge_at IS NULL

-- name: update_thread
-- Merges metadata and, if given, replaces the time to live. The state stays as it is.
UPDATE lgs.thread
SET metadata = metadata || %(metadata)s,
    ttl_strategy = COALESCE(%(ttl_strategy)s, ttl_strategy),
    ttl_minutes = COALESCE(%(ttl_minutes)s::float8, ttl_minutes),
    expires_at = COALESCE(now() + make_interval(secs => %(ttl_minutes)s::float8 * 60), expires_at),
    updated_at = now()
WHERE thread_id = %(thread_id)s AND purge_at IS NULL
RETURNING *

-- name: lock_threads
-- The visible ones of these threads, locked in one order, as every change to a thread's runs begins.
SELECT thread_id, metadata FROM lgs.thread
WHERE thread_id = ANY(%(thread_ids)s) AND purge_at IS NULL
ORDER BY thread_id
FOR UPDATE

-- name: look_at_threads
-- The visible ones of these threads, for whoever may not see all of them.
SELECT thread_id, metadata FROM lgs.thread WHERE thread_id = ANY(%(thread_ids)s) AND purge_at IS NULL

-- name: threads_of_assistant
-- The threads whose metadata names this assistant.
SELECT thread_id FROM lgs.thread WHERE metadata @> %(metadata)s AND purge_at IS NULL

-- name: delete_runs_of_threads
-- The runs of these threads, and which of them a worker has. Comes before the checkpoints: a worker that is saving one
-- holds its run row until it has, and cannot begin afterwards. Crons, which go with their threads, and runs are locked in
-- the order of their ids, as heartbeats and the deletion of assistants do it, or two of them would wait for each other.
WITH crons AS MATERIALIZED (
    SELECT cron_id FROM lgs.cron WHERE thread_id = ANY(%(thread_ids)s) ORDER BY cron_id FOR UPDATE
), doomed AS MATERIALIZED (
    SELECT run_id FROM lgs.run
    WHERE thread_id = ANY(%(thread_ids)s) AND (SELECT count(*) FROM crons) >= 0
    ORDER BY run_id
    FOR UPDATE
)
DELETE FROM lgs.run r USING doomed WHERE r.run_id = doomed.run_id RETURNING r.run_id, r.status

-- name: delete_threads
-- Threads with their checkpoints; crons go with them. Their runs must be gone. Checkpoints name threads as text.
WITH checkpoint_rows AS (
    DELETE FROM checkpoints WHERE thread_id = ANY(%(names)s)
), blobs AS (
    DELETE FROM checkpoint_blobs WHERE thread_id = ANY(%(names)s)
), writes AS (
    DELETE FROM checkpoint_writes WHERE thread_id = ANY(%(names)s)
)
DELETE FROM lgs.thread WHERE thread_id = ANY(%(thread_ids)s)

-- name: copy_thread
-- A thread under a new id, with its checkpoints and without runs: all from one snapshot. No row if the source is missing.
WITH copied AS (
    INSERT INTO lgs.thread (
        thread_id, tenant, status, settled_status, metadata, config, channel_values, interrupts, error)
    SELECT %(copy_id)s, tenant, settled_status, settled_status, metadata, config, channel_values, interrupts, error
    FROM lgs.thread
    WHERE thread_id = %(thread_id)s AND purge_at IS NULL
    RETURNING *
), checkpoint_rows AS (
    INSERT INTO checkpoints (
        thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
    SELECT copied.thread_id::text, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.type, c.checkpoint,
        c.metadata
    FROM checkpoints c, copied
    WHERE c.thread_id = %(name)s
), blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT copied.thread_id::text, b.checkpoint_ns, b.channel, b.version, b.type, b.blob
    FROM checkpoint_blobs b, copied
    WHERE b.thread_id = %(name)s
), writes AS (
    INSERT INTO checkpoint_writes (
        thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT copied.thread_id::text, w.checkpoint_ns, w.checkpoint_id, w.task_id, w.task_path, w.idx, w.channel, w.type,
        w.blob
    FROM checkpoint_writes w, copied
    WHERE w.thread_id = %(name)s
)
SELECT * FROM copied

-- name: measure_thread
-- How much a visible thread's checkpoints take; no row if the thread is missing.
SELECT t.thread_id, t.metadata, c.count AS checkpoint_count, c.bytes AS checkpoint_bytes,
    w.count AS write_count, w.bytes AS write_bytes, b.channels
FROM lgs.thread t,
LATERAL (
    SELECT count(*) AS count,
        COALESCE(sum(octet_length(checkpoint::text) + octet_length(metadata::text)), 0)::bigint AS bytes
    FROM checkpoints WHERE thread_id = %(name)s
) c,
LATERAL (
    SELECT count(*) AS count, COALESCE(sum(octet_length(blob)), 0)::bigint AS bytes
    FROM checkpoint_writes WHERE thread_id = %(name)s
) w,
LATERAL (
    SELECT COALESCE(jsonb_object_agg(channel, jsonb_build_object('versions', versions, 'bytes', bytes)), '{}') AS channels
    FROM (
        SELECT channel, count(*) AS versions, COALESCE(sum(octet_length(blob)), 0)::bigint AS bytes
        FROM checkpoint_blobs WHERE thread_id = %(name)s
        GROUP BY channel
    ) per_channel
) b
WHERE t.thread_id = %(thread_id)s AND t.purge_at IS NULL
