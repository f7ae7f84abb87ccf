-- name: get_thread_for_state
-- What is needed to open a thread's graph.
SELECT metadata, config, status FROM lgs.thread WHERE thread_id = %(thread_id)s AND purge_at IS NULL

-- name: lock_thread_for_state
-- The same, locked until the state has been written: a run that is created meanwhile waits, and then starts from it.
SELECT metadata, config, status FROM lgs.thread WHERE thread_id = %(thread_id)s AND purge_at IS NULL FOR UPDATE

-- name: write_thread_state
-- What a state write leaves on its thread, which is locked and has no live run.
UPDATE lgs.thread
SET channel_values = %(values)s, interrupts = %(interrupts)s, error = NULL,
    status = %(status)s, settled_status = %(status)s,
    updated_at = clock_timestamp(), state_updated_at = clock_timestamp()
WHERE thread_id = %(thread_id)s
RETURNING *
