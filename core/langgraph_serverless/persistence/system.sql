-- name: measure_queue
-- How many runs wait and run, and for how many seconds those that are due have been waiting. Two scans of small partial
-- indexes: the table itself may be large. `limits` and `most` are those of `claim_fairly` (queue.sql).
WITH running AS MATERIALIZED (
    SELECT thread_id, lease_owner, lease_expires_at, COALESCE(concurrency_key, 'default') AS name FROM lgs.run WHERE status = 'running'
), full_groups AS (
    SELECT name
    FROM running
    GROUP BY name
    HAVING count(*) >= NULLIF(COALESCE((%(limits)s::jsonb ->> name)::int, %(most)s::int), 0)
), waiting AS (
    SELECT r.resuming, EXTRACT(EPOCH FROM now() - r.available_at)::float8 AS waited,
        f.name IS NOT NULL AS over_limit, o.thread_id IS NOT NULL OR f.name IS NOT NULL AS blocked
    FROM lgs.run r
    LEFT JOIN running o USING (thread_id)
    LEFT JOIN full_groups f ON f.name = COALESCE(r.concurrency_key, 'default')
    WHERE r.status = 'pending'
)
SELECT count(*) FILTER (WHERE NOT resuming) AS pending,
    count(*) FILTER (WHERE resuming) + (SELECT count(*) FROM running) AS running,
    (SELECT count(*) FROM running WHERE lease_expires_at < now()) AS expired_leases,
    (SELECT count(*) FROM running WHERE lease_expires_at >= now()) AS executing,
    (SELECT count(DISTINCT lease_owner) FROM running WHERE lease_expires_at >= now()) AS workers,
    max(waited) FILTER (WHERE waited >= 0) AS wait_max_seconds,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY waited) FILTER (WHERE waited >= 0) AS wait_median_seconds,
    max(waited) FILTER (WHERE waited >= 0 AND NOT blocked) AS unblocked_wait_max_seconds,
    count(*) FILTER (WHERE waited >= 0 AND over_limit) AS over_limit
FROM waiting

-- name: measure_moves
-- What became of the leases that were taken within the last hour: expired, handed on, taken to give the run up; and how many
-- of them began a run again whose lease before had expired.
SELECT count(*) FILTER (WHERE ending = 'expired') AS lease_expiries,
    count(*) FILTER (WHERE ending = 'handoff') AS handoffs,
    count(*) FILTER (WHERE before = 'expired' AND kind IS NULL) AS repeats,
    count(*) FILTER (WHERE kind = 'bury') AS given_up
FROM lgs.run r
CROSS JOIN LATERAL (
    SELECT entry ->> 'end' AS ending, entry ->> 'kind' AS kind, (entry ->> 'at')::timestamptz AS taken,
        lag(entry ->> 'end') OVER (ORDER BY place) AS before
    FROM jsonb_array_elements(r.lease_history) WITH ORDINALITY AS l (entry, place)
) AS lease
WHERE (r.attempt > 1 OR r.handoffs > 0 OR r.resuming) AND r.updated_at > now() - interval '1 hour'
  AND lease.taken > now() - interval '1 hour'

-- name: measure_webhooks
-- Webhooks that are still to be delivered, for how many seconds the longest due one has been, and how many were given up.
SELECT count(*) AS undelivered,
    EXTRACT(EPOCH FROM now() - min(available_at) FILTER (WHERE available_at <= now()))::float8 AS lag_seconds,
    (SELECT count(*) FROM lgs.outbox WHERE dead_at IS NOT NULL) AS dead
FROM lgs.outbox
WHERE delivered_at IS NULL AND dead_at IS NULL

-- name: measure_crons
-- Crons whose time has come and that have not fired, and how late the latest one is in seconds.
SELECT count(*) AS overdue, EXTRACT(EPOCH FROM now() - min(next_run_date))::float8 AS lag_seconds
FROM lgs.cron
WHERE enabled AND next_run_date <= now()

-- name: seconds_until_work
-- When the scheduler is needed next, in seconds: less than one for at once, null for nobody knows. What is to be swept can wait.
SELECT EXTRACT(EPOCH FROM LEAST(
    (SELECT min(available_at) FROM lgs.run WHERE status = 'pending'),
    (SELECT now() FROM lgs.run WHERE status = 'running' LIMIT 1),
    (SELECT min(next_run_date) FROM lgs.cron WHERE enabled AND next_run_date IS NOT NULL),
    (SELECT min(available_at) FROM lgs.outbox WHERE delivered_at IS NULL AND dead_at IS NULL)
) - now())::float8 AS seconds
