-- name: claim_webhooks
-- Webhooks to be sent, the longest due first, each taken for the time of a lease: a sender that is not heard of by then has
-- died, and the row is due again. The try is counted here, so that what kills its senders comes to an end too. The body is
-- text, as a run's values may be large and nobody here looks into them: the payload and the time of this try.
WITH due AS (
    SELECT outbox_id
    FROM lgs.outbox
    WHERE delivered_at IS NULL AND dead_at IS NULL AND available_at <= now() AND attempt < %(most_tries)s
      AND (%(outbox_id)s::uuid IS NULL OR outbox_id = %(outbox_id)s)
    ORDER BY available_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE lgs.outbox o
SET attempt = o.attempt + 1, available_at = clock_timestamp() + make_interval(secs => %(lease)s)
FROM due
WHERE o.outbox_id = due.outbox_id
RETURNING o.outbox_id, o.run_id, o.thread_id, o.url, o.attempt,
    COALESCE(o.payload #>> '{kwargs,config,configurable,langgraph_request_id}', o.run_id::text) AS request_id,
    (SELECT x.trace FROM lgs.run_trace x WHERE x.run_id = o.run_id) AS trace,
    o.payload ? 'a2a' AS task,
    (o.payload || jsonb_build_object('webhook_sent_at', lgs.wire_time(clock_timestamp())))::text AS body

-- name: webhook_delivered
-- The receiver has it. Only the last sender that has claimed the row may say so; the body is of no use any more.
UPDATE lgs.outbox
SET delivered_at = clock_timestamp(), payload = 'null', last_error = NULL
WHERE outbox_id = %(outbox_id)s AND attempt = %(attempt)s AND delivered_at IS NULL AND dead_at IS NULL

-- name: webhook_failed
-- A try that failed: again after a while, or never.
UPDATE lgs.outbox
SET last_error = %(error)s,
    available_at = clock_timestamp() + make_interval(secs => COALESCE(%(delay)s::float8, 0)),
    dead_at = CASE WHEN %(delay)s::float8 IS NULL THEN clock_timestamp() END
WHERE outbox_id = %(outbox_id)s AND attempt = %(attempt)s AND delivered_at IS NULL AND dead_at IS NULL

-- name: bury_webhooks
-- The last try was claimed and nothing was heard of it.
UPDATE lgs.outbox
SET dead_at = clock_timestamp(), last_error = COALESCE(last_error, 'the sender was lost')
WHERE delivered_at IS NULL AND dead_at IS NULL AND available_at <= now() AND attempt >= %(most_tries)s
RETURNING outbox_id, run_id, thread_id

-- name: list_dead_webhooks
-- Webhooks that were given up, the last one first.
SELECT outbox_id, run_id, thread_id, url, attempt, last_error, created_at, dead_at, NULL::timestamptz AS due_at
FROM lgs.outbox
WHERE dead_at IS NOT NULL
ORDER BY dead_at DESC
LIMIT %(limit)s

-- name: list_waiting_webhooks
-- Webhooks that are still to be delivered, the next one first. One that is being sent is due when its sender's lease is over.
SELECT outbox_id, run_id, thread_id, url, attempt, last_error, created_at, dead_at, available_at AS due_at
FROM lgs.outbox
WHERE delivered_at IS NULL AND dead_at IS NULL
ORDER BY available_at
LIMIT %(limit)s

-- name: replay_webhooks
-- Dead letters come back to life, with their ids and all their tries: these, or every one. Whoever looks next sends them.
UPDATE lgs.outbox
SET dead_at = NULL, attempt = 0, available_at = clock_timestamp()
WHERE dead_at IS NOT NULL AND (%(outbox_ids)s::uuid[] IS NULL OR outbox_id = ANY(%(outbox_ids)s))
RETURNING outbox_id
