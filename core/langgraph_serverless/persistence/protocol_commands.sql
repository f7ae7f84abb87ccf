-- name: asking_thread
-- What a thread waits for, who made it wait, and what the runs that are to come have been told.
SELECT t.metadata, t.interrupts, ARRAY(
    SELECT r.kwargs -> 'command' FROM lgs.run r
    WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running')
) AS commands
FROM lgs.thread t
WHERE t.thread_id = %(thread_id)s AND t.purge_at IS NULL

-- name: checkpoint_is_there
-- Whether the root graph of a thread has this checkpoint.
SELECT 1 AS found FROM checkpoints
WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND checkpoint_id = %(checkpoint_id)s
