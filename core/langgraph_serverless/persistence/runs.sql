-- name: ensure_thread
-- A thread with this id, unless it exists: for `if_not_exists: create` and for stateless runs.
INSERT INTO lgs.thread (thread_id, tenant, metadata, temporary, ttl_strategy, ttl_minutes, expires_at)
VALUES (%(thread_id)s, %(tenant)s, %(metadata)s, %(temporary)s, %(ttl_strategy)s, %(ttl_minutes)s,
    now() + make_interval(secs => %(ttl_minutes)s::float8 * 60))
ON CONFLICT (thread_id) DO NOTHING

-- name: lock_for_create
-- The assistant and the visible thread of a run to be made; the thread stays locked until the transaction ends, so that
-- creation, settling and cancelling on one thread take turns. Thread columns are null if it is missing. Whoever deletes the
-- assistant with its threads waits for this run, or this for him and finds no assistant: it is locked first, as he does it.
WITH assistant AS MATERIALIZED (
    SELECT * FROM lgs.assistant WHERE assistant_id = %(assistant_id)s FOR KEY SHARE
), thread AS (
    SELECT thread_id, metadata, status, tenant
    FROM lgs.thread
    WHERE thread_id = %(thread_id)s AND purge_at IS NULL AND (SELECT count(*) FROM assistant) >= 0
    FOR UPDATE
)
SELECT a.assistant_id, a.graph_id, a.config, a.context, a.metadata,
       t.thread_id, t.metadata AS thread_metadata, t.status AS thread_status, t.tenant
FROM assistant a
LEFT JOIN thread t ON true

-- name: insert_run
-- The new run, the marks that it leaves on its thread at once (busy, and which graph it belongs to), and its place in a trace.
WITH inserted AS (
    INSERT INTO lgs.run (
        run_id, thread_id, tenant, assistant_id, graph_id, metadata, kwargs, multitask_strategy, webhook,
        cron_id, cron_due_at, priority, concurrency_key, available_at, created_at, updated_at
    )
    VALUES (
        %(run_id)s, %(thread_id)s, %(tenant)s, %(assistant_id)s, %(graph_id)s, %(metadata)s, %(kwargs)s,
        %(multitask_strategy)s, %(webhook)s, %(cron_id)s, %(cron_due_at)s,
        %(priority)s, %(concurrency_key)s,
        clock_timestamp() + make_interval(secs => %(after_seconds)s),
        -- of the same instant as its thread, if this transaction has made that too
        CASE WHEN (SELECT created_at FROM lgs.thread WHERE thread_id = %(thread_id)s) = now()
            THEN now() ELSE clock_timestamp() END + make_interval(secs => %(after_seconds)s),
        clock_timestamp()
    )
    RETURNING *
), marked AS (
    UPDATE lgs.thread
    SET status = 'busy', metadata = metadata || %(thread_metadata)s, config = %(thread_config)s,
        updated_at = clock_timestamp()
    WHERE thread_id = %(thread_id)s
), traced AS (
    INSERT INTO lgs.run_trace (run_id, trace)
    SELECT %(run_id)s, %(trace)s::jsonb WHERE %(trace)s::jsonb IS NOT NULL
)
-- and whether it has to wait: for its time, or for another run of its thread
SELECT i.*, i.available_at > clock_timestamp() OR EXISTS (
    SELECT 1 FROM lgs.run o
    WHERE o.thread_id = i.thread_id AND o.status IN ('pending', 'running')
      AND (o.status = 'running' OR (o.created_at, o.run_id) < (i.created_at, i.run_id))) AS waits
FROM inserted i

-- name: get_run
-- One run of a visible thread, with what decides who sees it.
SELECT r.*, t.metadata AS thread_metadata
FROM lgs.run r JOIN lgs.thread t USING (thread_id)
WHERE r.run_id = %(run_id)s
  AND (%(thread_id)s::uuid IS NULL OR r.thread_id = %(thread_id)s)
  AND t.purge_at IS NULL

-- name: look_at_thread
-- Whether a thread exists for clients, and what decides for which of them; `gone`: also one that went with its run.
SELECT metadata FROM lgs.thread WHERE thread_id = %(thread_id)s AND (%(gone)s OR purge_at IS NULL)

-- name: thread_of_run
-- Which thread decides who sees a run.
SELECT thread_id FROM lgs.run WHERE run_id = %(run_id)s

-- name: get_result
-- How a run stands and what it left: for wait and join, also when its thread is hidden already.
SELECT r.status, r.resuming, r.output, r.error, t.channel_values AS thread_values, t.purge_at IS NOT NULL AS hidden,
    t.metadata AS thread_metadata,
    CASE WHEN t.status = 'error' THEN t.error END AS thread_error,
    CASE WHEN t.status = 'interrupted' THEN t.interrupts END AS thread_interrupts
FROM lgs.run r JOIN lgs.thread t USING (thread_id)
WHERE r.run_id = %(run_id)s

-- name: lock_thread
-- Serialises what is done to a thread's runs; always taken before any of its run rows.
SELECT thread_id, status, metadata FROM lgs.thread WHERE thread_id = %(thread_id)s FOR UPDATE

-- name: delete_run
-- One run, live or not, with the checkpoints that it has written. A worker that executes it loses its lease with the row.
-- Values that checkpoints of other runs refer to stay. So do all of its checkpoints, if others build on them: on a thread with
-- delta channels a checkpoint may hold only what has changed since its ancestors; a run that has begun has read them, and saves
-- only what it changes; one that was resumed and asks again has left what it knows at the checkpoint where it began; and a
-- subgraph that remembers across runs (its namespace has no task in it) has its memory with the run that called it last.
-- The thread and its live runs must be locked, so that none begins meanwhile.
WITH gone AS (
    DELETE FROM lgs.run
    WHERE run_id = %(run_id)s AND thread_id = %(thread_id)s
    RETURNING run_id, thread_id, status, attempt, handoffs, lease_history,
        graph_id, created_at, started_at, kwargs - ARRAY['input', 'command'] AS kwargs
), tokens AS (
    SELECT gone.thread_id::text AS thread_id, (entry ->> 'token')::uuid AS token
    FROM gone, jsonb_array_elements(gone.lease_history) AS entry
), others AS MATERIALIZED (
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.checkpoint, c.metadata
    FROM checkpoints c JOIN gone ON c.thread_id = gone.thread_id::text
    WHERE NOT EXISTS (SELECT 1 FROM tokens t WHERE t.token = c.lease_token)
), deleted AS MATERIALIZED (
    SELECT t.thread_id, t.token FROM tokens t
    WHERE NOT EXISTS (
        SELECT 1 FROM others o WHERE o.metadata ?| array['counters_since_delta_snapshot', 'delta_writes_versioned'])
      AND NOT EXISTS (
        SELECT 1 FROM lgs.run r
        WHERE r.thread_id = %(thread_id)s AND r.run_id <> %(run_id)s AND (r.status = 'running' OR r.resuming))
      AND NOT EXISTS (
        SELECT 1 FROM checkpoint_writes w JOIN checkpoints c USING (thread_id, checkpoint_ns, checkpoint_id)
        WHERE w.thread_id = t.thread_id AND c.lease_token IN (SELECT token FROM tokens)
          AND (w.lease_token IS NULL OR w.lease_token NOT IN (SELECT token FROM tokens))
          AND NOT EXISTS (
            SELECT 1 FROM others o WHERE o.checkpoint_ns = c.checkpoint_ns AND o.checkpoint_id > c.checkpoint_id))
      AND NOT EXISTS (
        SELECT 1 FROM checkpoints c
        WHERE c.thread_id = t.thread_id AND c.lease_token IN (SELECT token FROM tokens)
          AND c.checkpoint_ns <> '' AND strpos(c.checkpoint_ns, ':') = 0
          AND EXISTS (SELECT 1 FROM others o WHERE o.checkpoint_ns = '' AND o.checkpoint_id > c.checkpoint_id)
          AND NOT EXISTS (
            SELECT 1 FROM others o WHERE o.checkpoint_ns = c.checkpoint_ns AND o.checkpoint_id > c.checkpoint_id))
), deleted_checkpoints AS (
    DELETE FROM checkpoints c USING deleted d
    WHERE c.thread_id = d.thread_id AND c.lease_token = d.token
), deleted_writes AS (
    DELETE FROM checkpoint_writes w USING deleted d
    WHERE w.thread_id = d.thread_id AND w.lease_token = d.token
), deleted_blobs AS (
    DELETE FROM checkpoint_blobs b USING deleted d
    WHERE b.thread_id = d.thread_id AND b.lease_token = d.token AND NOT EXISTS (
        SELECT 1 FROM others o
        WHERE o.checkpoint_ns = b.checkpoint_ns AND o.checkpoint -> 'channel_versions' ->> b.channel = b.version)
)
SELECT g.run_id, g.status, g.attempt, g.handoffs, g.thread_id, g.graph_id, g.created_at, g.started_at, g.kwargs,
    t.created_at AS thread_made
FROM gone g JOIN lgs.thread t USING (thread_id)

-- name: live_runs
-- The pending and running runs of a thread, oldest first, locked: a claim or a hand-off, which take no thread, must not come
-- between this look and what is done about it.
SELECT run_id, status, resuming, attempt, handoffs, cancel_action
FROM lgs.run
WHERE thread_id = %(thread_id)s AND status IN ('pending', 'running')
ORDER BY created_at, run_id
FOR NO KEY UPDATE

-- name: runs_to_cancel
-- The named runs of a thread with their status, locked in one order.
SELECT run_id, status, resuming, attempt, handoffs
FROM lgs.run
WHERE thread_id = %(thread_id)s AND run_id = ANY(%(run_ids)s)
ORDER BY run_id
FOR NO KEY UPDATE

-- name: threads_with_status
-- The threads that have runs to cancel by status: `pending`, `running` or `all`.
SELECT DISTINCT thread_id
FROM lgs.run
WHERE status IN ('pending', 'running')
  AND (%(status)s = 'all' OR CASE WHEN resuming AND status = 'pending' THEN 'running' ELSE status END = %(status)s)
ORDER BY thread_id

-- name: request_cancel
-- Records the cancel of runs that have begun; their worker learns of it with its next heartbeat, or the next one when it
-- claims the run. The first request stands, except that a rollback overrides an interrupt.
UPDATE lgs.run
SET cancel_action = CASE WHEN cancel_action = 'rollback' THEN 'rollback' ELSE %(action)s END,
    cancel_reason = COALESCE(cancel_reason, %(reason)s),
    cancel_requested_at = COALESCE(cancel_requested_at, clock_timestamp()),
    updated_at = clock_timestamp()
WHERE run_id = ANY(%(run_ids)s) AND (status = 'running' OR resuming)
RETURNING run_id

-- name: interrupt_pending
-- Ends runs that no worker has had, and notes their webhooks.
WITH ended AS (
    UPDATE lgs.run r
    SET status = 'interrupted', resuming = false, cancel_action = 'interrupt', cancel_reason = %(reason)s,
        cancel_requested_at = clock_timestamp(), finished_at = clock_timestamp(), updated_at = clock_timestamp(),
        error = %(error)s
    WHERE run_id = ANY(%(run_ids)s) AND status = 'pending'
    RETURNING run_id, thread_id, tenant, attempt, handoffs, webhook, CASE WHEN webhook IS NOT NULL THEN r END AS row,
        graph_id, created_at, started_at, kwargs - ARRAY['input', 'command'] AS kwargs
), noted AS (
    INSERT INTO lgs.outbox (outbox_id, tenant, run_id, thread_id, url, payload)
    SELECT gen_random_uuid(), e.tenant, e.run_id, e.thread_id, e.webhook,
        lgs.webhook_payload(e.row, 'interrupted', CASE WHEN NOT t.temporary THEN t.channel_values END, %(error)s)
    FROM ended e JOIN lgs.thread t USING (thread_id)
    WHERE e.webhook IS NOT NULL
)
SELECT e.run_id, e.attempt, e.handoffs, e.thread_id, e.graph_id, e.created_at, e.started_at, e.kwargs,
    t.created_at AS thread_made
FROM ended e JOIN lgs.thread t USING (thread_id)

-- name: delete_pending
-- Removes runs that no worker has had, and notes their webhooks.
WITH ended AS (
    DELETE FROM lgs.run r
    WHERE run_id = ANY(%(run_ids)s) AND status = 'pending'
    RETURNING run_id, thread_id, tenant, attempt, handoffs, webhook, CASE WHEN webhook IS NOT NULL THEN r END AS row,
        graph_id, created_at, started_at, kwargs - ARRAY['input', 'command'] AS kwargs
), noted AS (
    INSERT INTO lgs.outbox (outbox_id, tenant, run_id, thread_id, url, payload)
    SELECT gen_random_uuid(), tenant, run_id, thread_id, webhook,
        lgs.webhook_payload(ended.row, 'rollback', NULL, %(error)s)
    FROM ended
    WHERE webhook IS NOT NULL
)
SELECT e.run_id, e.attempt, e.handoffs, e.thread_id, e.graph_id, e.created_at, e.started_at, e.kwargs,
    t.created_at AS thread_made
FROM ended e JOIN lgs.thread t USING (thread_id)

-- name: refresh_thread_status
-- A thread's status after its set of live runs has changed, and whether there are any; its row must be locked. A temporary
-- thread goes with its run, also if no worker has settled it.
WITH live AS (
    SELECT EXISTS (
        SELECT 1 FROM lgs.run r WHERE r.thread_id = %(thread_id)s AND r.status IN ('pending', 'running')
    ) AS any
)
UPDATE lgs.thread t
SET status = CASE WHEN live.any THEN 'busy' ELSE t.settled_status END,
    purge_at = CASE WHEN t.temporary AND NOT live.any
        THEN clock_timestamp() + make_interval(secs => %(temporary_retention)s) ELSE t.purge_at END,
    updated_at = clock_timestamp()
FROM live
WHERE t.thread_id = %(thread_id)s
RETURNING (SELECT live.any FROM live) AS live
