-- name: asking_thread
-- What a thread waits for, who made it wait, and its live runs, oldest first, with what they were told instead of an input.
SELECT t.metadata, t.interrupts, ARRAY(
    SELECT jsonb_build_object('run_id', r.run_id, 'command', r.kwargs -> 'command') FROM lgs.run r
    WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running')
    ORDER BY r.created_at, r.run_id
) AS live
FROM lgs.thread t
WHERE t.thread_id = %(thread_id)s AND t.purge_at IS NULL

-- name: checkpoint_is_there
-- Whether the root graph of a thread has this checkpoint.
SELECT 1 AS found FROM checkpoints
WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND checkpoint_id = %(checkpoint_id)s
