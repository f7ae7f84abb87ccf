-- name: given_up
-- Runs that ended because every attempt had lost its worker, the last one first.
SELECT r.run_id, r.thread_id, r.graph_id, r.finished_at, r.last_node, r.last_error, r.error ->> 'message' AS message,
    r.lease_history
FROM lgs.run r
WHERE r.status = 'error' AND r.error ->> 'error' = 'RunAttemptsExhausted'
ORDER BY r.finished_at DESC
LIMIT %(limit)s

-- name: thread_of_run
-- Which thread to lock.
SELECT thread_id FROM lgs.run WHERE run_id = %(run_id)s

-- name: replayable
-- How a run stands whose thread is locked: whether it was given up, whether it has been put back since, and whether its thread
-- has gone on without it, by another run or by a write to its state.
SELECT r.status, r.error ->> 'error' AS error,
    EXISTS (SELECT 1 FROM jsonb_array_elements(r.lease_history) AS e (entry) WHERE e.entry ? 'replayed') AS replayed,
    EXISTS (
        SELECT 1 FROM lgs.run o
        WHERE o.thread_id = r.thread_id AND o.run_id <> r.run_id
          AND (o.status = 'running' OR EXISTS (
              -- not started_at, which begins anew when that run is replayed
              SELECT 1 FROM jsonb_array_elements(o.lease_history) AS l (entry)
              WHERE (entry ->> 'at')::timestamptz > r.finished_at AND NOT entry ? 'kind'))) AS passed,
    t.state_updated_at > r.finished_at AS written
FROM lgs.run r JOIN lgs.thread t USING (thread_id)
WHERE r.run_id = %(run_id)s
FOR NO KEY UPDATE OF r

-- name: replay
-- Puts a run that was given up back into the queue, to go on from its newest checkpoint: with all its attempts, and with its
-- time beginning anew. The leases that it has had stay in its history and count as hand-offs from now on, so that the epoch
-- of the next one is higher than theirs. A webhook that has not been delivered would tell of an end that is none.
WITH back AS (
    UPDATE lgs.run
    SET status = 'pending', resuming = true, handoffs = handoffs + attempt, attempt = 0,
        lease_history = (
            SELECT jsonb_agg(CASE WHEN entry ->> 'end' = 'handoff' THEN entry ELSE entry || '{"replayed": true}' END ORDER BY place)
            FROM jsonb_array_elements(lease_history) WITH ORDINALITY AS l (entry, place)),
        available_at = clock_timestamp(), started_at = NULL, finished_at = NULL, output = NULL, error = NULL,
        cancel_action = NULL, cancel_reason = NULL, cancel_requested_at = NULL, updated_at = clock_timestamp()
    WHERE run_id = %(run_id)s AND status = 'error'
    RETURNING run_id, thread_id
), marked AS (
    UPDATE lgs.thread t
    SET status = 'busy', purge_at = NULL, updated_at = clock_timestamp()
    FROM back
    WHERE t.thread_id = back.thread_id
), silenced AS (
    DELETE FROM lgs.outbox o USING back WHERE o.run_id = back.run_id AND o.delivered_at IS NULL
)
SELECT run_id FROM back
