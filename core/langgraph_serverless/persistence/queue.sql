-- name: claim
-- The next runs for a worker, by priority and then age: due, on a thread where nothing runs and nothing older waits.
-- Runs that have one attempt left are taken for a trial only, and only they are then.
-- `SKIP LOCKED` lets workers pass each other; the unique index on running runs stands behind it.
WITH candidate AS (
    SELECT r.run_id, COALESCE(r.lease_history -> -1 ->> 'end', '') = 'handoff' AS continued
    FROM lgs.run r
    WHERE r.status = 'pending'
      AND r.available_at <= now()
      AND (%(last_attempt)s::int IS NULL OR (r.attempt + 1 >= %(last_attempt)s::int) = %(on_trial)s)
      AND NOT EXISTS (
          SELECT 1 FROM lgs.run o WHERE o.thread_id = r.thread_id AND o.status = 'running')
      AND NOT EXISTS (
          SELECT 1 FROM lgs.run e
          WHERE e.thread_id = r.thread_id AND e.status = 'pending'
            AND (e.created_at, e.run_id) < (r.created_at, r.run_id))
    ORDER BY r.priority, r.available_at, r.run_id
    LIMIT %(limit)s
    FOR UPDATE OF r SKIP LOCKED
), fresh AS (
    SELECT run_id, continued, gen_random_uuid() AS token FROM candidate
)
UPDATE lgs.run r
SET status = 'running', resuming = false, attempt = r.attempt + 1,
    lease_token = f.token, lease_owner = %(owner)s,
    lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s),
    lease_history = r.lease_history
        || jsonb_build_object('token', f.token, 'owner', %(owner)s::text, 'at', clock_timestamp()),
    started_at = COALESCE(r.started_at, clock_timestamp()), updated_at = clock_timestamp()
FROM fresh f, lgs.thread t
WHERE r.run_id = f.run_id AND t.thread_id = r.thread_id
RETURNING r.*, f.continued, t.metadata AS thread_metadata, t.temporary, t.created_at AS thread_made,
    EXTRACT(EPOCH FROM clock_timestamp() - r.started_at)::float8 AS age,
    EXTRACT(EPOCH FROM clock_timestamp() - r.available_at)::float8 AS waited,
    (SELECT x.trace FROM lgs.run_trace x WHERE x.run_id = r.run_id) AS trace

-- name: wait_for_turn
-- Until this transaction ends, no other claim shares out runs between fairness groups: what it counts is what runs.
SELECT pg_advisory_xact_lock(%(lock)s)

-- name: claim_fairly
-- As `claim`, but runs of one priority go to the fairness group that has the fewest running, and no group gets more of them
-- than it may have: `limits` says how many by name, `most` for the others, 0 is any number. Follows `wait_for_turn` as a
-- statement of its own, because it must see what others have claimed before.
-- It steps from group to group through the index and reads the first few runs of those whose turn it is, so it costs what
-- there are groups, and not what there are runs.
WITH RECURSIVE running AS MATERIALIZED (
    SELECT COALESCE(concurrency_key, 'default') AS name, count(*) AS runs
    FROM lgs.run
    WHERE status = 'running'
    GROUP BY 1
), waiting AS (
    (SELECT priority, COALESCE(concurrency_key, 'default') AS name, available_at
     FROM lgs.run
     WHERE status = 'pending'
     ORDER BY priority, COALESCE(concurrency_key, 'default'), available_at
     LIMIT 1)
    UNION ALL
    SELECT following.*
    FROM waiting w CROSS JOIN LATERAL (
        SELECT r.priority, COALESCE(r.concurrency_key, 'default'), r.available_at
        FROM lgs.run r
        WHERE r.status = 'pending' AND (r.priority, COALESCE(r.concurrency_key, 'default')) > (w.priority, w.name)
        ORDER BY r.priority, COALESCE(r.concurrency_key, 'default'), r.available_at
        LIMIT 1
    ) AS following
), open AS (
    SELECT w.priority, w.name, w.available_at, COALESCE(g.runs, 0) AS runs, may.have - COALESCE(g.runs, 0) AS room
    FROM waiting w
    LEFT JOIN running g USING (name)
    CROSS JOIN LATERAL (
        SELECT COALESCE(NULLIF(COALESCE((%(limits)s::jsonb ->> w.name)::int, %(most)s::int), 0), 2147483647) AS have
    ) AS may
    WHERE w.available_at <= now() AND may.have > COALESCE(g.runs, 0)
    ORDER BY w.priority, COALESCE(g.runs, 0), w.available_at
), first AS MATERIALIZED (
    -- of each group, in the order of their turns, what it could get; from as many groups as could share all of it
    SELECT c.run_id, c.available_at, g.priority, g.name, g.runs, g.room
    FROM open g
    CROSS JOIN LATERAL (
        SELECT r.run_id, r.available_at
        FROM lgs.run r
        WHERE r.status = 'pending' AND r.priority = g.priority AND COALESCE(r.concurrency_key, 'default') = g.name
          AND r.available_at <= now()
          AND (%(last_attempt)s::int IS NULL OR (r.attempt + 1 >= %(last_attempt)s::int) = %(on_trial)s)
          AND NOT EXISTS (
              SELECT 1 FROM lgs.run o WHERE o.thread_id = r.thread_id AND o.status = 'running')
          AND NOT EXISTS (
              SELECT 1 FROM lgs.run e
              WHERE e.thread_id = r.thread_id AND e.status = 'pending'
                AND (e.created_at, e.run_id) < (r.created_at, r.run_id))
        ORDER BY r.available_at, r.run_id
        LIMIT LEAST(%(limit)s::bigint, g.room)
    ) AS c
    LIMIT %(limit)s::bigint * %(limit)s::bigint
), turn AS (
    SELECT run_id, priority, runs, room, available_at,
        row_number() OVER (PARTITION BY name ORDER BY priority, available_at, run_id) AS place
    FROM first
), candidate AS (
    SELECT r.run_id, COALESCE(r.lease_history -> -1 ->> 'end', '') = 'handoff' AS continued
    FROM lgs.run r
    WHERE r.status = 'pending' AND r.run_id IN (
        SELECT run_id FROM turn
        WHERE place <= room
        ORDER BY priority, runs + place, available_at, run_id
        LIMIT %(limit)s)
    FOR UPDATE OF r SKIP LOCKED
), fresh AS (
    SELECT run_id, continued, gen_random_uuid() AS token FROM candidate
)
UPDATE lgs.run r
SET status = 'running', resuming = false, attempt = r.attempt + 1,
    lease_token = f.token, lease_owner = %(owner)s,
    lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s),
    lease_history = r.lease_history
        || jsonb_build_object('token', f.token, 'owner', %(owner)s::text, 'at', clock_timestamp()),
    started_at = COALESCE(r.started_at, clock_timestamp()), updated_at = clock_timestamp()
FROM fresh f, lgs.thread t
WHERE r.run_id = f.run_id AND t.thread_id = r.thread_id
RETURNING r.*, f.continued, t.metadata AS thread_metadata, t.temporary, t.created_at AS thread_made,
    EXTRACT(EPOCH FROM clock_timestamp() - r.started_at)::float8 AS age,
    EXTRACT(EPOCH FROM clock_timestamp() - r.available_at)::float8 AS waited,
    (SELECT x.trace FROM lgs.run_trace x WHERE x.run_id = r.run_id) AS trace

-- name: next_due
-- Seconds until the earliest delayed run is due; null if none waits. One step into the queue's index for each priority: there
-- are few, and due runs are not read, of which there may be many.
WITH RECURSIVE level AS (
    (SELECT priority FROM lgs.run WHERE status = 'pending' ORDER BY priority LIMIT 1)
    UNION ALL
    SELECT following.priority
    FROM level CROSS JOIN LATERAL (
        SELECT r.priority FROM lgs.run r
        WHERE r.status = 'pending' AND r.priority > level.priority
        ORDER BY r.priority
        LIMIT 1
    ) AS following
)
SELECT EXTRACT(EPOCH FROM min(delayed.available_at) - clock_timestamp())::float8 AS seconds
FROM level CROSS JOIN LATERAL (
    SELECT r.available_at FROM lgs.run r
    WHERE r.status = 'pending' AND r.priority = level.priority AND r.available_at > now()
    ORDER BY r.available_at
    LIMIT 1
) AS delayed

-- name: runnable
-- How many runs workers could claim now, counted up to a limit: one of each thread where nothing runs, as in `claim`.
SELECT count(*) AS runnable
FROM (
    SELECT 1
    FROM lgs.run r
    WHERE r.status = 'pending' AND r.available_at <= now()
      AND NOT EXISTS (SELECT 1 FROM lgs.run o WHERE o.thread_id = r.thread_id AND o.status = 'running')
      AND NOT EXISTS (
          SELECT 1 FROM lgs.run e
          WHERE e.thread_id = r.thread_id AND e.status = 'pending'
            AND (e.created_at, e.run_id) < (r.created_at, r.run_id))
    LIMIT %(up_to)s
) AS waiting

-- name: runnable_fairly
-- The same where fairness groups have limits: of each group no more than it has room for. It steps from group to group, as
-- `claim_fairly` does.
WITH RECURSIVE running AS MATERIALIZED (
    SELECT COALESCE(concurrency_key, 'default') AS name, count(*) AS runs
    FROM lgs.run
    WHERE status = 'running'
    GROUP BY 1
), waiting AS (
    (SELECT priority, COALESCE(concurrency_key, 'default') AS name, available_at
     FROM lgs.run
     WHERE status = 'pending'
     ORDER BY priority, COALESCE(concurrency_key, 'default'), available_at
     LIMIT 1)
    UNION ALL
    SELECT following.*
    FROM waiting w CROSS JOIN LATERAL (
        SELECT r.priority, COALESCE(r.concurrency_key, 'default'), r.available_at
        FROM lgs.run r
        WHERE r.status = 'pending' AND (r.priority, COALESCE(r.concurrency_key, 'default')) > (w.priority, w.name)
        ORDER BY r.priority, COALESCE(r.concurrency_key, 'default'), r.available_at
        LIMIT 1
    ) AS following
), open AS (
    SELECT w.priority, w.name, may.have - COALESCE(g.runs, 0) AS room
    FROM waiting w
    LEFT JOIN running g USING (name)
    CROSS JOIN LATERAL (
        SELECT COALESCE(NULLIF(COALESCE((%(limits)s::jsonb ->> w.name)::int, %(most)s::int), 0), 2147483647) AS have
    ) AS may
    WHERE w.available_at <= now() AND may.have > COALESCE(g.runs, 0)
), counted AS (
    SELECT g.name, g.room, sum(c.runs) AS runs
    FROM open g
    CROSS JOIN LATERAL (
        SELECT count(*) AS runs
        FROM (
            SELECT 1
            FROM lgs.run r
            WHERE r.status = 'pending' AND r.priority = g.priority AND COALESCE(r.concurrency_key, 'default') = g.name
              AND r.available_at <= now()
              AND NOT EXISTS (
                  SELECT 1 FROM lgs.run o WHERE o.thread_id = r.thread_id AND o.status = 'running')
              AND NOT EXISTS (
                  SELECT 1 FROM lgs.run e
                  WHERE e.thread_id = r.thread_id AND e.status = 'pending'
                    AND (e.created_at, e.run_id) < (r.created_at, r.run_id))
            ORDER BY r.available_at
            LIMIT LEAST(%(up_to)s::bigint, g.room)
        ) AS run
    ) AS c
    GROUP BY g.name, g.room
)
SELECT LEAST(%(up_to)s::bigint, COALESCE(sum(LEAST(room, runs)), 0))::bigint AS runnable FROM counted

-- name: heartbeat
-- Extends the leases that are still held and says which of their runs are to be cancelled. A lease without an answer is lost.
WITH held AS (
    SELECT r.run_id
    FROM lgs.run r
    JOIN unnest(%(run_ids)s::uuid[], %(tokens)s::uuid[]) AS l (run_id, token)
        ON r.run_id = l.run_id AND r.lease_token = l.token
    WHERE r.status = 'running'
    ORDER BY r.run_id
    FOR NO KEY UPDATE OF r
)
UPDATE lgs.run r
SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
FROM held
WHERE r.run_id = held.run_id
RETURNING r.run_id, r.cancel_action, r.cancel_reason

-- name: lock_thread_of_run
-- Settling takes the thread before the run, as creating and cancelling do.
SELECT t.thread_id
FROM lgs.thread t
WHERE t.thread_id = %(thread_id)s
FOR UPDATE

-- name: settle
-- The end of a run: its row, its thread and its webhook, if the lease is still held and no cancel has been recorded that this
-- end would lose (success after an interrupt, anything but a rollback after a rollback); no row otherwise.
WITH settled AS (
    UPDATE lgs.run r
    SET status = %(status)s, resuming = false, output = %(output)s, error = %(error)s, last_error = %(last_error)s,
        last_node = COALESCE(%(last_node)s, last_node),
        finished_at = clock_timestamp(), updated_at = clock_timestamp(),
        lease_token = NULL, lease_owner = NULL, lease_expires_at = NULL
    WHERE run_id = %(run_id)s AND lease_token = %(token)s AND status = 'running'
      AND (cancel_action IS NULL OR (cancel_action = 'interrupt' AND %(status)s <> 'success'))
    -- the whole row only where it is wanted, as it may be large
    RETURNING run_id, thread_id, tenant, webhook, CASE WHEN webhook IS NOT NULL THEN r END AS row
), queued AS (
    SELECT EXISTS (
        SELECT 1 FROM lgs.run r
        WHERE r.thread_id = %(thread_id)s AND r.run_id <> %(run_id)s AND r.status IN ('pending', 'running')
    ) AS more
), marked AS (
    UPDATE lgs.thread t
    SET settled_status = %(thread_status)s,
        status = CASE WHEN queued.more THEN 'busy' ELSE %(thread_status)s END,
        channel_values = CASE WHEN %(write_values)s THEN %(values)s ELSE t.channel_values END,
        interrupts = COALESCE(%(interrupts)s, t.interrupts),
        error = %(thread_error)s,
        updated_at = clock_timestamp(),
        state_updated_at = CASE WHEN %(write_values)s THEN clock_timestamp() ELSE t.state_updated_at END,
        purge_at = CASE WHEN t.temporary
            THEN clock_timestamp() + make_interval(secs => %(temporary_retention)s) END
    FROM settled, queued
    WHERE t.thread_id = settled.thread_id
    -- what the thread has now, and not the parameter once more: it is part of the message, and may be large
    RETURNING t.thread_id, CASE WHEN settled.webhook IS NOT NULL AND NOT t.temporary THEN t.channel_values END AS values
), noted AS (
    INSERT INTO lgs.outbox (outbox_id, tenant, run_id, thread_id, url, payload)
    SELECT gen_random_uuid(), s.tenant, s.run_id, s.thread_id, s.webhook,
        lgs.webhook_payload(s.row, %(status)s, m.values, %(error)s)
    FROM settled s JOIN marked m USING (thread_id)
    WHERE s.webhook IS NOT NULL
    RETURNING outbox_id
)
SELECT settled.run_id, queued.more, (SELECT outbox_id FROM noted) AS outbox_id,
    EXISTS (
        SELECT 1 FROM lgs.a2a_push p
        WHERE p.task_id = COALESCE((SELECT task_id FROM lgs.a2a_turn t WHERE t.run_id = settled.run_id), settled.run_id)
    ) AS pushed
FROM settled, queued

-- name: recorded_cancel
-- The cancel that kept `settle` from writing, if the lease is still held.
SELECT cancel_action, cancel_reason
FROM lgs.run
WHERE run_id = %(run_id)s AND lease_token = %(token)s AND status = 'running' AND cancel_action IS NOT NULL

-- name: settle_rollback
-- The end of a run that was rolled back: its row, its checkpoints and its writes disappear, the thread is as it was before.
WITH gone AS (
    DELETE FROM lgs.run r
    WHERE run_id = %(run_id)s AND lease_token = %(token)s AND status = 'running'
    RETURNING run_id, thread_id, tenant, lease_history, webhook, CASE WHEN webhook IS NOT NULL THEN r END AS row
), tokens AS (
    SELECT (entry ->> 'token')::uuid AS token FROM gone, jsonb_array_elements(gone.lease_history) AS entry
), deleted_checkpoints AS (
    DELETE FROM checkpoints c
    USING gone
    WHERE c.thread_id = gone.thread_id::text AND c.lease_token IN (SELECT token FROM tokens)
), deleted_writes AS (
    DELETE FROM checkpoint_writes w
    USING gone
    WHERE w.thread_id = gone.thread_id::text AND w.lease_token IN (SELECT token FROM tokens)
), deleted_blobs AS (
    DELETE FROM checkpoint_blobs b
    USING gone
    WHERE b.thread_id = gone.thread_id::text AND b.lease_token IN (SELECT token FROM tokens)
), queued AS (
    SELECT EXISTS (
        SELECT 1 FROM lgs.run r
        WHERE r.thread_id = %(thread_id)s AND r.run_id <> %(run_id)s AND r.status IN ('pending', 'running')
    ) AS more
), marked AS (
    UPDATE lgs.thread t
    SET status = CASE WHEN queued.more THEN 'busy' ELSE t.settled_status END,
        error = %(thread_error)s,
        updated_at = clock_timestamp(),
        purge_at = CASE WHEN t.temporary
            THEN clock_timestamp() + make_interval(secs => %(temporary_retention)s) END
    FROM gone, queued
    WHERE t.thread_id = gone.thread_id
), noted AS (
    INSERT INTO lgs.outbox (outbox_id, tenant, run_id, thread_id, url, payload)
    SELECT gen_random_uuid(), tenant, run_id, thread_id, webhook,
        lgs.webhook_payload(gone.row, 'rollback', NULL, %(thread_error)s)
    FROM gone
    WHERE webhook IS NOT NULL
    RETURNING outbox_id
)
SELECT gone.run_id, queued.more, (SELECT outbox_id FROM noted) AS outbox_id FROM gone, queued

-- name: already_settled
-- What the end of a run leaves to be done, if this lease has written it; no row otherwise. Of a rollback, the run is gone.
SELECT
    EXISTS (
        SELECT 1 FROM lgs.run o
        WHERE o.thread_id = %(thread_id)s AND o.run_id <> %(run_id)s AND o.status IN ('pending', 'running')
    ) AS more,
    (SELECT outbox_id FROM lgs.outbox WHERE run_id = %(run_id)s LIMIT 1) AS outbox_id
WHERE CASE
    WHEN %(rollback)s THEN NOT EXISTS (SELECT 1 FROM lgs.run WHERE run_id = %(run_id)s)
    ELSE EXISTS (
        SELECT 1 FROM lgs.run r
        WHERE r.run_id = %(run_id)s AND r.status NOT IN ('pending', 'running')
          AND (r.lease_history -> -1 ->> 'token')::uuid = %(token)s AND r.lease_history -> -1 -> 'end' IS NULL)
    END

-- name: hand_off
-- Gives a run back to the queue on purpose, at a superstep boundary or before it began: not an attempt. No row if the lease was lost.
UPDATE lgs.run
SET status = 'pending', resuming = true, attempt = attempt - 1, handoffs = handoffs + 1,
    lease_token = NULL, lease_owner = NULL, lease_expires_at = NULL,
    lease_history = jsonb_set(lease_history, '{-1,end}', '"handoff"'),
    updated_at = clock_timestamp()
WHERE run_id = %(run_id)s AND lease_token = %(token)s AND status = 'running'
RETURNING run_id

-- name: requeue_expired
-- Takes runs back from workers that have not been heard of, while they have attempts left or get on: one that has resumed
-- and completed a superstep in one of its last attempts is not what took its workers away. One that is to be cancelled has
-- an attempt more, in order to end where it stands; it may still die of what is loaded for that.
UPDATE lgs.run
SET status = 'pending', resuming = true,
    lease_token = NULL, lease_owner = NULL, lease_expires_at = NULL,
    lease_history = jsonb_set(lease_history, '{-1,end}', '"expired"'),
    updated_at = clock_timestamp()
WHERE run_id IN (
    SELECT run_id FROM lgs.run r
    WHERE status = 'running' AND lease_expires_at < now()
      AND (attempt < %(max_attempts)s + (cancel_action IS NOT NULL)::int
           OR lgs.has_got_on(run_id, thread_id, lease_history, %(max_attempts)s::int - 1))
    ORDER BY run_id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
RETURNING run_id, thread_id

-- name: claim_exhausted
-- Takes over runs whose last attempt has expired without getting on, in order to end them. Whoever did so before and died of
-- something else is no worker that the run has lost.
WITH exhausted AS (
    SELECT run_id, gen_random_uuid() AS token FROM lgs.run r
    WHERE status = 'running' AND lease_expires_at < now()
      AND attempt >= %(max_attempts)s + (cancel_action IS NOT NULL)::int
      AND NOT lgs.has_got_on(run_id, thread_id, lease_history, %(max_attempts)s::int - 1)
    ORDER BY run_id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE lgs.run r
SET attempt = r.attempt + 1, lease_token = e.token, lease_owner = %(owner)s,
    lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s),
    lease_history = jsonb_set(r.lease_history, '{-1,end}', '"expired"')
        || jsonb_build_object('token', e.token, 'owner', %(owner)s::text, 'at', clock_timestamp(), 'kind', 'bury')
FROM exhausted e, lgs.thread t
WHERE r.run_id = e.run_id AND t.thread_id = r.thread_id
RETURNING r.run_id, r.thread_id, r.graph_id, r.lease_token, r.attempt, r.handoffs, r.last_error, r.cancel_action,
    r.cancel_reason, r.created_at, r.started_at, r.kwargs - ARRAY['input', 'command'] AS kwargs, t.created_at AS thread_made,
    (SELECT count(*) FROM jsonb_array_elements(r.lease_history) AS l (entry)
     WHERE entry ->> 'end' = 'expired' AND NOT entry ?| ARRAY['kind', 'replayed']) AS lost,
    (SELECT entry -> 'nodes' FROM jsonb_array_elements(r.lease_history) WITH ORDINALITY AS l (entry, place)
     WHERE NOT entry ? 'kind' ORDER BY place DESC LIMIT 1) AS nodes

-- name: note_nodes
-- What a run is about to execute under its lease, in case that it is the end of its worker.
UPDATE lgs.run
SET lease_history = jsonb_set(lease_history, '{-1,nodes}', %(nodes)s)
WHERE run_id = %(run_id)s AND lease_token = %(token)s AND status = 'running'
RETURNING run_id

-- name: nodes_in_flight
-- The nodes that the newest checkpoint of a run leads to and that have not written since: what its worker died with, if it
-- could not note that itself. None if nothing was saved; what was sent with `Send` is not seen.
WITH newest AS (
    SELECT thread_id, checkpoint_ns, checkpoint_id, checkpoint
    FROM checkpoints
    WHERE thread_id = %(thread_id)s AND metadata ->> 'run_id' = %(run_id)s
    ORDER BY checkpoint_id DESC
    LIMIT 1
), ahead AS (
    SELECT newest.*, substr(channel, 11) AS node
    FROM newest, jsonb_each_text(checkpoint -> 'channel_versions') AS v (channel, version)
    WHERE starts_with(channel, 'branch:to:') AND checkpoint -> 'channel_values' ? channel
      AND version COLLATE "C"
          > COALESCE(checkpoint -> 'versions_seen' -> substr(channel, 11) ->> channel, '') COLLATE "C"
)
SELECT node
FROM ahead a
WHERE NOT EXISTS (
    SELECT 1 FROM checkpoint_writes w
    WHERE w.thread_id = a.thread_id AND w.checkpoint_ns = a.checkpoint_ns AND w.checkpoint_id = a.checkpoint_id
      AND split_part(w.task_path, ', ', 2) = a.node)
ORDER BY node
