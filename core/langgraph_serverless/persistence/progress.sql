-- name: progress
-- What the earlier leases of a run have saved; no row if its thread has no checkpoint.
WITH tokens AS (
    SELECT (entry ->> 'token')::uuid AS token
    FROM lgs.run r, jsonb_array_elements(r.lease_history) AS entry
    WHERE r.run_id = %(run_id)s
), root AS (
    SELECT checkpoint_id, parent_checkpoint_id, metadata, metadata ->> 'run_id' = %(run_id)s::text AS own
    FROM checkpoints
    WHERE thread_id = %(thread_id)s AND checkpoint_ns = ''
), newest AS (
    SELECT checkpoint_id FROM root ORDER BY checkpoint_id DESC LIMIT 1
)
SELECT
    EXISTS (SELECT 1 FROM root WHERE own) AS own,
    COALESCE(
        (SELECT max((metadata ->> 'step')::int) - 1 FROM root WHERE own AND metadata ->> 'source' = 'input'),
        (SELECT (p.metadata ->> 'step')::int
         FROM (SELECT parent_checkpoint_id FROM root WHERE own ORDER BY checkpoint_id LIMIT 1) AS first
         JOIN root p ON p.checkpoint_id = first.parent_checkpoint_id),
        -2) AS base,
    ARRAY(
        SELECT DISTINCT c.checkpoint_ns FROM checkpoints c
        WHERE c.thread_id = %(thread_id)s AND c.checkpoint_ns <> '' AND c.checkpoint_id > newest.checkpoint_id
          AND c.metadata -> 'parents' ->> '' = newest.checkpoint_id) AS spaces,
    EXISTS (
        SELECT 1 FROM checkpoint_writes w
        WHERE w.thread_id = %(thread_id)s AND w.checkpoint_ns = '' AND w.checkpoint_id = newest.checkpoint_id
          AND w.task_id = %(null_task)s AND w.lease_token IN (SELECT token FROM tokens)) AS commanded
FROM newest

-- name: answered
-- The interrupts whose answers an earlier lease of a run has stored with their tasks.
SELECT asked.type, asked.blob
FROM lgs.run r
CROSS JOIN LATERAL jsonb_array_elements(r.lease_history) AS entry
JOIN checkpoint_writes answer
    ON answer.thread_id = %(thread_id)s AND answer.channel = '__resume__' AND answer.task_id <> %(null_task)s
   AND answer.lease_token = (entry ->> 'token')::uuid
JOIN checkpoint_writes asked
    ON asked.thread_id = answer.thread_id AND asked.checkpoint_ns = answer.checkpoint_ns
   AND asked.checkpoint_id = answer.checkpoint_id AND asked.task_id = answer.task_id AND asked.channel = '__interrupt__'
WHERE r.run_id = %(run_id)s

-- name: take_answer_back
-- Removes the answer that a run has brought, if the lease is still held: it has been given to whoever had asked.
DELETE FROM checkpoint_writes w
WHERE w.thread_id = %(thread_id)s AND w.checkpoint_ns = '' AND w.task_id = %(null_task)s AND w.channel = '__resume__'
  AND w.lease_token IN (
      SELECT (entry ->> 'token')::uuid
      FROM lgs.run r, jsonb_array_elements(r.lease_history) AS entry
      WHERE r.run_id = %(run_id)s AND r.lease_token = %(token)s AND r.status = 'running')
