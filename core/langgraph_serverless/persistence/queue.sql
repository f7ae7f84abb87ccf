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
), claimed AS (
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
        (SELECT x.trace FROM lgs.run_trace x WHERE x.run_id = r.run_id) AS trace,
        -- of a run that has begun before they may be newer than what this statement sees
        r.attempt > 1 OR r.handoffs > 0
            -- one by one through the index; of EXISTS the planner might read all checkpoints at once
            OR (SELECT true FROM checkpoints c WHERE c.thread_id = r.thread_id::text LIMIT 1) IS NOT NULL AS has_checkpoints
)
-- and when to look again, if these are all that could be had
SELECT c.*, due.seconds AS next_due
FROM (
    SELECT CASE WHEN (SELECT count(*) FROM claimed) < %(limit)s THEN lgs.next_due_v1() END AS seconds
) AS due
LEFT JOIN claimed c ON true

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
), claimed AS (
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
        (SELECT x.trace FROM lgs.run_trace x WHERE x.run_id = r.run_id) AS trace,
        -- of a run that has begun before they may be newer than what this statement sees
        r.attempt > 1 OR r.handoffs > 0
            -- one by one through the index; of EXISTS the planner might read all checkpoints at once
            OR (SELECT true FROM checkpoints c WHERE c.thread_id = r.thread_id::text LIMIT 1) IS NOT NULL AS has_checkpoints
)
-- and when to look again, if these are all that could be had
SELECT c.*, due.seconds AS next_due
FROM (
    SELECT CASE WHEN (SELECT count(*) FROM claimed) < %(limit)s THEN lgs.next_due_v1() END AS seconds
) AS due
LEFT JOIN claimed c ON true

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

-- name: settle
-- The end of a run with its last checkpoints, its thread and its webhook (`migrations/0027`): no row if the lease has ended, the cancel
-- that this end would lose if one has been recorded.
SELECT s.more, s.outbox_id, s.pushed, s.cancel_action, s.cancel_reason
FROM lgs.settle_v1(
    %(run_id)s::uuid, %(token)s::uuid, %(thread_id)s::uuid,
    %(save_rows)s::jsonb, %(save_blobs)s::bytea[], %(save_writes)s::bytea[],
    %(status)s::text, %(output)s::jsonb, %(output_is_values)s::boolean, %(error)s::jsonb, %(last_error)s::text,
    %(last_node)s::text, %(thread_status)s::text, %(write_values)s::boolean, %(values)s::jsonb, %(interrupts)s::jsonb,
    %(thread_error)s::jsonb, %(temporary_retention)s::float8) AS s

-- name: roll_back
-- The end of a run that was rolled back (`migrations/0027`); no row if the lease has ended.
SELECT b.more, b.outbox_id
FROM lgs.roll_back_v1(
    %(run_id)s::uuid, %(token)s::uuid, %(thread_id)s::uuid, %(thread_error)s::jsonb, %(temporary_retention)s::float8) AS b

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
