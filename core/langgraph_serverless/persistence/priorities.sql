-- name: first_run
-- What a priority handler is told of a run to be made, and what it has said of the run's thread before. Thread columns are null
-- if it is missing, settings if it has none.
SELECT a.graph_id, a.metadata AS assistant_metadata, t.thread_id, t.metadata AS thread_metadata,
    p.priority, p.fairness_group
FROM lgs.assistant a
LEFT JOIN lgs.thread t ON t.thread_id = %(thread_id)s AND t.purge_at IS NULL
LEFT JOIN lgs.thread_priority p ON p.thread_id = t.thread_id
WHERE a.assistant_id = %(assistant_id)s

-- name: keep_settings
-- Stores a thread's settings if it has none, and gives those that it has now. The thread must be locked.
WITH stored AS (
    INSERT INTO lgs.thread_priority (thread_id, priority, fairness_group)
    VALUES (%(thread_id)s, %(priority)s, %(fairness_group)s)
    ON CONFLICT (thread_id) DO NOTHING
    RETURNING priority, fairness_group
)
SELECT priority, fairness_group FROM stored
UNION ALL
SELECT priority, fairness_group FROM lgs.thread_priority WHERE thread_id = %(thread_id)s
LIMIT 1
