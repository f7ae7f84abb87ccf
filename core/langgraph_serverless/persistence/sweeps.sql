-- What is over is compared with now() and not with clock_timestamp(): that may change from row to row, so that no index could be
-- searched with it. What is swept is named in arrays: joined, it would be looked for in the whole table if that is not large.

-- name: purge_threads
-- Removes threads whose time is over, with everything that belongs to them, a batch at a time: hidden threads of stateless
-- runs, and threads with a time to live. Busy ones stay until their runs have ended; the status is looked at again once
-- the row is locked, so a run that is created meanwhile keeps its thread. Crons are locked in the order of their ids, as
-- whoever deletes several does.
WITH over AS MATERIALIZED (
    SELECT thread_id
    FROM lgs.thread
    WHERE status <> 'busy'
      AND (purge_at <= now() OR (expires_at <= now() AND ttl_strategy = 'delete'))
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), crons AS MATERIALIZED (
    SELECT cron_id FROM lgs.cron WHERE thread_id = ANY(ARRAY(SELECT thread_id FROM over)) ORDER BY cron_id FOR UPDATE
), gone AS (
    DELETE FROM lgs.thread
    WHERE thread_id = ANY(ARRAY(SELECT thread_id FROM over)) AND (SELECT count(*) FROM crons) >= 0
    RETURNING thread_id::text AS thread_id
), checkpoints_gone AS (
    DELETE FROM checkpoints WHERE thread_id = ANY(ARRAY(SELECT thread_id FROM gone))
), blobs_gone AS (
    DELETE FROM checkpoint_blobs WHERE thread_id = ANY(ARRAY(SELECT thread_id FROM gone))
), writes_gone AS (
    DELETE FROM checkpoint_writes WHERE thread_id = ANY(ARRAY(SELECT thread_id FROM gone))
)
SELECT count(*) AS count FROM gone

-- name: claim_expired_histories
-- Threads whose history is due to be cut down to the newest checkpoints, locked; their time starts anew.
UPDATE lgs.thread
SET expires_at = clock_timestamp() + make_interval(secs => ttl_minutes * 60)
WHERE thread_id = ANY(ARRAY(
    SELECT thread_id
    FROM lgs.thread
    WHERE status <> 'busy' AND expires_at <= now() AND ttl_strategy = 'keep_latest' AND purge_at IS NULL
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
RETURNING thread_id

-- name: lock_settled_threads
-- Those of the threads that nobody is working on, locked in one order, so that no run begins until the transaction ends.
SELECT thread_id FROM lgs.thread
WHERE thread_id = ANY(%(thread_ids)s) AND purge_at IS NULL AND status <> 'busy'
ORDER BY thread_id
FOR UPDATE

-- name: forget_webhooks
-- Removes webhooks that came to an end a week ago: delivered ones are kept so that somebody can look them up, and those that
-- were given up so that they can be sent again by hand.
DELETE FROM lgs.outbox
WHERE outbox_id = ANY(ARRAY(
    SELECT outbox_id
    FROM lgs.outbox
    WHERE (delivered_at IS NOT NULL OR dead_at IS NOT NULL)
      AND COALESCE(delivered_at, dead_at) < now() - interval '7 days'
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))

-- name: forget_keys
-- Removes idempotency keys whose time is over, with their answers.
DELETE FROM lgs.idempotency
WHERE ctid = ANY(ARRAY(
    SELECT ctid  -- where they are: they are locked, and stay there
    FROM lgs.idempotency
    WHERE expires_at <= now()
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))

-- name: keep_latest
-- Cuts these threads' histories down to what their newest states need. The threads must be locked and have no live run: then
-- a checkpoint that is not here will not come, and writes without one are nobody's.
--
-- Kept is the newest checkpoint of every namespace, except for subgraph calls (a ":" and a task's id in the namespace) of a
-- root checkpoint that goes. A DeltaChannel stores its value now and then, and between that only what was written: below a
-- newest checkpoint that does not hold all of its delta channels, its ancestors stay down to one that does. Their names are
-- those that LangGraph counts in the metadata. A checkpoint of a format before 4 has its sends with its parent. The threads of
-- LangGraph.js that use delta channels do not count, so nothing of theirs goes.
WITH RECURSIVE head AS MATERIALIZED (
    SELECT DISTINCT ON (thread_id, checkpoint_ns) thread_id, checkpoint_ns, checkpoint_id
    FROM checkpoints
    WHERE thread_id = ANY(%(names)s)
    ORDER BY thread_id, checkpoint_ns, checkpoint_id DESC
), uncounted AS MATERIALIZED (
    SELECT DISTINCT thread_id FROM checkpoints
    WHERE thread_id = ANY(%(names)s) AND metadata ? 'delta_writes_versioned'
), delta AS MATERIALIZED (
    SELECT thread_id, checkpoint_ns, array_agg(DISTINCT channel) AS channels
    FROM checkpoints c, LATERAL jsonb_object_keys(c.metadata -> 'counters_since_delta_snapshot') AS channel
    WHERE thread_id = ANY(%(names)s) AND jsonb_typeof(metadata -> 'counters_since_delta_snapshot') = 'object'
    GROUP BY thread_id, checkpoint_ns
), chain AS (
    SELECT h.thread_id, h.checkpoint_ns, h.checkpoint_id, d.channels
    FROM head h LEFT JOIN delta d USING (thread_id, checkpoint_ns)
    UNION ALL
    SELECT chain.thread_id, chain.checkpoint_ns, c.parent_checkpoint_id, chain.channels
    FROM chain
    CROSS JOIN LATERAL (  -- with OFFSET a look-up by key; the planner might read the whole table instead
        SELECT parent_checkpoint_id, checkpoint FROM checkpoints
        WHERE thread_id = chain.thread_id AND checkpoint_ns = chain.checkpoint_ns
          AND checkpoint_id = chain.checkpoint_id
        OFFSET 0
    ) AS c
    WHERE c.parent_checkpoint_id IS NOT NULL AND EXISTS (
        SELECT 1 FROM unnest(chain.channels) AS delta_channel
        WHERE c.checkpoint -> 'channel_versions' ? delta_channel
          AND (c.checkpoint -> 'channel_values' ->> delta_channel) IS NULL
          AND NOT EXISTS (
              SELECT 1 FROM checkpoint_blobs b
              WHERE b.thread_id = chain.thread_id AND b.checkpoint_ns = chain.checkpoint_ns AND b.channel = delta_channel
                AND b.version = c.checkpoint -> 'channel_versions' ->> delta_channel AND b.type <> 'empty')
    )
), needed AS MATERIALIZED (
    SELECT thread_id, checkpoint_ns, checkpoint_id FROM chain
    UNION
    SELECT h.thread_id, h.checkpoint_ns, c.parent_checkpoint_id
    FROM head h JOIN checkpoints c USING (thread_id, checkpoint_ns, checkpoint_id)
    WHERE c.thread_id = ANY(%(names)s) AND (c.checkpoint ->> 'v')::int < 4 AND c.parent_checkpoint_id IS NOT NULL
    UNION
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id FROM checkpoints c JOIN uncounted USING (thread_id)
    WHERE c.thread_id = ANY(%(names)s)
), past_call AS MATERIALIZED (
    SELECT h.thread_id, h.checkpoint_ns
    FROM head h JOIN checkpoints c USING (thread_id, checkpoint_ns, checkpoint_id)
    JOIN checkpoints root ON root.thread_id = h.thread_id AND root.checkpoint_ns = ''
        AND root.checkpoint_id = c.metadata -> 'parents' ->> ''
    WHERE c.thread_id = ANY(%(names)s) AND root.thread_id = ANY(%(names)s) AND strpos(h.checkpoint_ns, ':') > 0 AND NOT EXISTS (
        SELECT 1 FROM needed n
        WHERE n.thread_id = h.thread_id AND n.checkpoint_ns = '' AND n.checkpoint_id = root.checkpoint_id
    )
), kept AS MATERIALIZED (
    SELECT * FROM needed n
    WHERE NOT EXISTS (SELECT 1 FROM past_call p WHERE p.thread_id = n.thread_id AND p.checkpoint_ns = n.checkpoint_ns)
), referenced AS MATERIALIZED (
    SELECT DISTINCT thread_id, checkpoint_ns, v.key AS channel, v.value AS version
    FROM kept JOIN checkpoints c USING (thread_id, checkpoint_ns, checkpoint_id),
        LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
    WHERE c.thread_id = ANY(%(names)s)
), checkpoints_gone AS (
    DELETE FROM checkpoints c
    WHERE thread_id = ANY(%(names)s) AND NOT EXISTS (
        SELECT 1 FROM kept k
        WHERE k.thread_id = c.thread_id AND k.checkpoint_ns = c.checkpoint_ns AND k.checkpoint_id = c.checkpoint_id
    )
), parents_gone AS (
    UPDATE checkpoints c SET parent_checkpoint_id = NULL
    FROM kept k
    WHERE k.thread_id = c.thread_id AND k.checkpoint_ns = c.checkpoint_ns AND k.checkpoint_id = c.checkpoint_id
      AND c.thread_id = ANY(%(names)s) AND c.parent_checkpoint_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM kept p
        WHERE p.thread_id = c.thread_id AND p.checkpoint_ns = c.checkpoint_ns
          AND p.checkpoint_id = c.parent_checkpoint_id
      )
), writes_gone AS (
    DELETE FROM checkpoint_writes w
    WHERE thread_id = ANY(%(names)s) AND NOT EXISTS (
        SELECT 1 FROM kept k
        WHERE k.thread_id = w.thread_id AND k.checkpoint_ns = w.checkpoint_ns AND k.checkpoint_id = w.checkpoint_id
    )
)
DELETE FROM checkpoint_blobs b
WHERE thread_id = ANY(%(names)s) AND NOT EXISTS (
    SELECT 1 FROM referenced r
    WHERE r.thread_id = b.thread_id AND r.checkpoint_ns = b.checkpoint_ns AND r.channel = b.channel
      AND r.version = b.version
)
