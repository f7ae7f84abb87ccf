-- name: measure_queue
-- How many runs wait and run, and for how many seconds those that are due have been waiting.
WITH live AS (
    SELECT r.status, r.resuming, EXTRACT(EPOCH FROM now() - r.available_at)::float8 AS waited,
        EXISTS (SELECT 1 FROM lgs.run o WHERE o.thread_id = r.thread_id AND o.status = 'running') AS blocked
    FROM lgs.run r
    WHERE r.status IN ('pending', 'running')
)
SELECT count(*) FILTER (WHERE status = 'pending' AND NOT resuming) AS pending,
    count(*) FILTER (WHERE status = 'running' OR resuming) AS running,
    max(waited) FILTER (WHERE status = 'pending' AND waited >= 0) AS wait_max_seconds,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY waited) FILTER (WHERE status = 'pending' AND waited >= 0)
        AS wait_median_seconds,
    max(waited) FILTER (WHERE status = 'pending' AND waited >= 0 AND NOT blocked) AS unblocked_wait_max_seconds
FROM live
