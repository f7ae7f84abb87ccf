-- name: recent_runs
-- The thread's age and its runs that go on or have ended since, in the order of their starts; one row without a run if there is
-- none, and without a thread. For readers of a thread whose index does not tell them.
SELECT n.now, t.created_at AS thread_made, r.*
FROM (SELECT clock_timestamp() AS now) n
LEFT JOIN lgs.thread t ON t.thread_id = %(thread_id)s
LEFT JOIN LATERAL (
    SELECT run_id, thread_id, graph_id, status, resuming, attempt, created_at, started_at, finished_at,
        kwargs - ARRAY['input', 'command'] AS kwargs
    FROM lgs.run
    WHERE thread_id = %(thread_id)s
        AND (status IN ('pending', 'running') OR (finished_at > %(since)s AND run_id <> ALL(%(but)s::uuid[])))
    ORDER BY started_at NULLS LAST, created_at, run_id
    LIMIT %(limit)s
) r ON true

-- name: last_run
-- A thread's run that goes on, or else the one that ended last. For a reader who comes back when all logs are gone.
SELECT t.created_at AS thread_made, r.run_id, r.thread_id, r.graph_id, r.status, r.resuming, r.attempt, r.created_at, r.started_at,
    r.finished_at, r.kwargs - ARRAY['input', 'command'] AS kwargs
FROM lgs.run r
JOIN lgs.thread t ON t.thread_id = r.thread_id AND t.purge_at IS NULL
WHERE r.thread_id = %(thread_id)s
ORDER BY r.finished_at DESC NULLS FIRST, r.created_at DESC
LIMIT 1
